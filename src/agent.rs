//! `evenkeel agent`: offer slots to a coordinator until told to go.

use crate::cli::AgentArgs;
use crate::connect::{self, Address};
use crate::exit::{Exit, Failure};
use crate::run::Signals;
use evenkeel_agent::AgentConfig;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// How long the agent tries to reach a coordinator that is gone.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn agent(args: AgentArgs) -> Result<Exit, Failure> {
    let address = Address::parse(&args.coordinator)?;
    address.only_local()?;
    let guard = std::env::current_exe()
        .map_err(|error| Failure::infrastructure("the path of this program is not known", error))?;
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let config = AgentConfig {
        name: args.name.unwrap_or_else(hostname),
        slots: args.slots.unwrap_or_else(cores),
        labels: BTreeMap::new(),
        cache: args.cache.unwrap_or_else(cache_directory),
        guard,
    };
    let (shutdown, stopped) = watch::channel(false);
    let mut signals = Signals::listen()?;
    tokio::spawn(async move {
        eprintln!(
            "{}: leaving; once more to end at once",
            signals.next().await
        );
        shutdown.send(true).ok();
        signals.next().await;
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });

    let mut alone_since = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        let failure = match connect::connect(&address).await {
            Ok(channel) => {
                eprintln!(
                    "agent {} offers {} slots to {}",
                    config.name, config.slots, args.coordinator
                );
                let served = evenkeel_agent::serve(channel, &config, stopped.clone()).await;
                if *stopped.borrow() {
                    return Ok(Exit::Green);
                }
                alone_since = tokio::time::Instant::now();
                pause = Duration::from_millis(100);
                match served {
                    Ok(()) => Failure::usage("the coordinator closed the session"),
                    Err(error) => {
                        Failure::infrastructure("the session with the coordinator ended", error)
                    }
                }
            }
            Err(failure) => failure,
        };
        if *stopped.borrow() {
            return Ok(Exit::Green);
        }
        if alone_since.elapsed() >= PATIENCE {
            return Err(failure);
        }
        eprintln!("warning: {failure}; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "agent".to_owned()
    } else {
        name.to_owned()
    }
}

fn cache_directory() -> PathBuf {
    let home = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    home.unwrap_or_else(std::env::temp_dir).join("evenkeel")
}
