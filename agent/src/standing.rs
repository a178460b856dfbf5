//! An agent that stands: one session after the other, across cuts and restarts of the coordinator, until it has left or has been alone
//! for too long.

use crate::left::{AgentError, Left};
use crate::session::Agent;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;

/// The pause before a first new try, and what the pauses grow to. What an agent holds waits for it, and with it a deploy.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What whoever started the agent may want to know.
#[derive(Debug)]
pub enum News<'a, E> {
    /// The coordinator has taken it in.
    Welcomed { name: &'a str, slots: u32 },
    /// It is without a coordinator and tries again; `busy` says that slots go on with what they hold.
    Alone { why: &'a Alone<E>, busy: bool },
}

/// Why an agent is without a coordinator.
#[derive(Debug)]
pub enum Alone<E> {
    /// No connection came about.
    Unreached(E),
    /// A session ended.
    Ended(AgentError),
}

/// Serves until it has left in order. An error where it is refused, or was alone for `give_up_after`; what it ran has been ended then.
pub async fn stand<E, C>(
    mut agent: Agent,
    connect: impl Fn() -> C,
    mut stopped: watch::Receiver<bool>,
    give_up_after: Duration,
    mut tell: impl FnMut(News<'_, E>),
) -> Result<Left, Alone<E>>
where
    C: Future<Output = Result<Channel, E>>,
{
    let mut alone_since = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let mut welcomed = false;
        let why = match connect().await {
            Ok(channel) => {
                let (name, slots) = (agent.config().name.clone(), agent.config().slots);
                let served = agent.serve(channel, stopped.clone(), || {
                    welcomed = true;
                    tell(News::Welcomed { name: &name, slots });
                });
                match served.await {
                    Ok(left) => return Ok(left),
                    Err(error) => Alone::Ended(error),
                }
            }
            Err(error) => Alone::Unreached(error),
        };
        if let Alone::Ended(AgentError::Refused { .. } | AgentError::Protocol { .. }) = why {
            agent.end().await;
            return Err(why);
        }
        if *stopped.borrow() {
            agent.end().await;
            return Ok(Left::Told);
        }
        if welcomed {
            alone_since = Instant::now();
            pause = FIRST_PAUSE;
        }
        if alone_since.elapsed() >= give_up_after {
            agent.end().await;
            return Err(why);
        }
        let (why, busy) = (&why, agent.is_busy());
        tell(News::Alone { why, busy });
        tokio::select! {
            biased;
            _ = stopped.wait_for(|down| *down) => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
