//! `evenkeel agent`: offer slots to a coordinator until told to go.

use crate::cli::AgentArgs;
use crate::connect::{self, Address};
use crate::exit::{Exit, Failure};
use crate::lines::leave;
use crate::run::Signals;
use evenkeel_agent::{Agent, AgentConfig, AgentError, Alone, Left, News, RunName, stand};
use std::path::PathBuf;
use tokio::sync::watch;

const ENDED: &str = "the session with the coordinator ended";

pub async fn agent(args: AgentArgs) -> Result<Exit, Failure> {
    let address = Address::parse(&args.coordinator)?;
    address.trusted(&args.reach.trust)?;
    let guard = std::env::current_exe()
        .map_err(|error| Failure::infrastructure("the path of this program is not known", error))?;
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let config = AgentConfig {
        name: args.name.unwrap_or_else(hostname),
        slots: args.slots.unwrap_or_else(cores),
        labels: args.labels.into_iter().collect(),
        run: args.run.map(|run| RunName {
            project: args.project,
            run,
            wait: args.wait,
        }),
        drain: args.drain,
        cache: args.cache.unwrap_or_else(cache_directory),
        guard,
    };
    let (shutdown, stopped) = watch::channel(false);
    let mut signals = Signals::listen()?;
    tokio::spawn(async move {
        leave(format!(
            "{}: leaving when what runs has ended; once more to end at once",
            signals.next().await
        ));
        shutdown.send(true).ok();
        signals.next().await;
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });

    let agent = Agent::new(config)
        .map_err(|error| Failure::infrastructure("the agent cannot be started", error))?;
    let tell = |news: News<'_, Failure>| match news {
        News::Welcomed { name, slots } => {
            leave(format!(
                "agent {name} offers {slots} slots to {}",
                args.coordinator
            ));
        }
        News::Alone { why, busy } => {
            let goes_on = if busy { "; what it holds goes on" } else { "" };
            match why {
                Alone::Unreached(failure) => {
                    leave(format!("warning: {failure}; trying again{goes_on}"));
                }
                Alone::Ended(error) => {
                    leave(format!("warning: {ENDED}: {error}; trying again{goes_on}"));
                }
            }
        }
    };
    let connect = || connect::connect(&address);
    let stood = stand(agent, connect, stopped, args.reach.give_up_after, tell).await;
    match stood {
        Ok(left) => Ok(has_left(&left)),
        Err(Alone::Unreached(failure)) => Err(failure),
        Err(Alone::Ended(error @ AgentError::Cut { .. })) => {
            Err(Failure::infrastructure(ENDED, error))
        }
        Err(Alone::Ended(error)) => Err(Failure::infrastructure("this agent cannot serve", error)),
    }
}

fn has_left(left: &Left) -> Exit {
    match left {
        Left::Told => Exit::Green,
        Left::Dismissed { reason, failed } => {
            leave(reason.as_str());
            if *failed {
                Exit::Incomplete
            } else {
                Exit::Green
            }
        }
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

pub fn cache_directory() -> PathBuf {
    let home = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    home.unwrap_or_else(std::env::temp_dir).join("evenkeel")
}
