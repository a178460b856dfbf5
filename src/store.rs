//! `evenkeel store`: look after what a coordinator has stored.

use crate::cli::{StoreArgs, StoreCommand, StoreOf};
use crate::exit::{Exit, Failure};
use crate::run::store_failure;
use evenkeel_coordinator::store::{FILE, Store, StoreAddress};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a store is, if nothing else is said.
pub fn address(named: Option<StoreAddress>, state: &Path) -> StoreAddress {
    named.unwrap_or_else(|| StoreAddress::Sqlite(state.join(FILE)))
}

/// Microseconds since 1970, that long ago.
pub fn ago(keep: Duration) -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.saturating_sub(keep).as_micros()).unwrap_or(u64::MAX)
}

pub async fn store(args: StoreArgs) -> Result<Exit, Failure> {
    match args.what {
        StoreCommand::Check(of) => check(of).await,
        StoreCommand::Prune(args) => {
            let (store, _) = open(args.of).await?;
            let pruned = store.prune(ago(args.keep)).await.map_err(store_failure)?;
            say!(
                "removed {} runs with {} rows, and {} samples of the history",
                pruned.runs,
                pruned.rows,
                pruned.samples
            );
            Ok(Exit::Green)
        }
    }
}

async fn open(of: StoreOf) -> Result<(Store, StoreAddress), Failure> {
    let address = address(of.store, &of.state);
    if let StoreAddress::Sqlite(path) = &address
        && !path.is_file()
    {
        return Err(Failure::usage(format!("there is no store {address}"))
            .with_hint("name its directory with --state DIR, or the store with --store STORE"));
    }
    let store = Store::inspect(&address, &of.state)
        .await
        .map_err(store_failure)?;
    Ok((store, address))
}

async fn check(of: StoreOf) -> Result<Exit, Failure> {
    let (store, address) = open(of).await?;
    let mut shown = 0;
    let progress = |done: u64, of: u64| {
        if done == of || done >= shown + 100 {
            shown = done;
            say!("{done} of {of} runs read");
        }
    };
    let findings = store.check(progress).await.map_err(store_failure)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        say!("nothing is wrong with {address}");
        return Ok(Exit::Green);
    }
    say!("{} faults in {address}", findings.len());
    Ok(Exit::Incomplete)
}
