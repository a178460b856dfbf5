//! How SQLite is waited for. It answers from a thread of its own, in real time, which a simulation's clock knows nothing of: there its
//! statements are waited for in place, and what a transaction takes is said by the simulation. Without the feature `planted`, which
//! only tests of this crate have, all of this is plain waiting.

#[cfg(feature = "planted")]
mod simulated {
    use std::cell::RefCell;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::time::Duration;

    /// Draws how long a transaction waits before it begins, or until who asked hears that it is durable.
    pub type Delay = Box<dyn Fn() -> Duration>;

    thread_local! {
        static DELAY: RefCell<Option<Delay>> = const { RefCell::new(None) };
    }

    /// From now on stores of this thread are on a simulation's disk.
    pub fn simulate(delay: Delay) {
        DELAY.set(Some(delay));
    }

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    pub(in super::super) async fn statement<F: Future>(statement: F) -> F::Output {
        if DELAY.with_borrow(Option::is_none) {
            return statement.await;
        }
        // It must not yield for the sake of others: they would run or not, as fast as the other thread is.
        let mut statement = pin!(tokio::task::unconstrained(statement));
        std::future::poll_fn(|_| {
            let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
            let mut context = Context::from_waker(&waker);
            loop {
                match statement.as_mut().poll(&mut context) {
                    Poll::Ready(output) => return Poll::Ready(output),
                    Poll::Pending => std::thread::park(),
                }
            }
        })
        .await
    }

    pub(in super::super) async fn delay() {
        let drawn = DELAY.with_borrow(|delay| delay.as_ref().map(|delay| delay()));
        if let Some(drawn) = drawn {
            tokio::time::sleep(drawn).await;
        }
    }
}

#[cfg(feature = "planted")]
pub use simulated::{Delay, simulate};
#[cfg(feature = "planted")]
pub(super) use simulated::{delay, statement};

/// Waits for a statement.
#[cfg(not(feature = "planted"))]
pub(super) async fn statement<F: Future>(statement: F) -> F::Output {
    statement.await
}

/// Before a transaction begins, and when it has ended.
#[cfg(not(feature = "planted"))]
pub(super) async fn delay() {}
