//! Work that blocks: it is done beside the runtime's threads, or in place where there is only one, as in simulations, so that nothing
//! there depends on how long it takes.

use super::panics;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

fn is_alone() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

pub(super) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if is_alone() {
        return Ok(work());
    }
    let run = panics::current();
    tokio::task::spawn_blocking(move || panics::within(run, work)).await
}

/// The same for work that borrows what its task has: the others are moved away from this thread.
pub(super) fn here<T>(work: impl FnOnce() -> T) -> T {
    if is_alone() {
        return work();
    }
    tokio::task::block_in_place(work)
}
