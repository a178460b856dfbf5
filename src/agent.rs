//! `evenkeel agent`: offer slots to a coordinator until told to go.

use crate::cli::AgentArgs;
use crate::connect::{self, Address};
use crate::exit::{Exit, Failure};
use crate::lines::leave;
use crate::run::Signals;
use evenkeel_agent::{Agent, AgentConfig, AgentError, Left, RunName};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The pause before a first new try, and what the pauses grow to. What an agent holds waits for it, and with it a deploy.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

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
    let (shutdown, mut stopped) = watch::channel(false);
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

    let mut agent = Agent::new(config)
        .map_err(|error| Failure::infrastructure("the agent cannot be started", error))?;
    let mut alone_since = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let mut welcomed = false;
        let failure = match connect::connect(&address).await {
            Ok(channel) => {
                let (name, slots) = (agent.config().name.clone(), agent.config().slots);
                let served = agent.serve(channel, stopped.clone(), || {
                    welcomed = true;
                    leave(format!(
                        "agent {name} offers {slots} slots to {}",
                        args.coordinator
                    ));
                });
                match served.await {
                    Ok(left) => return Ok(has_left(&left)),
                    Err(error @ (AgentError::Refused { .. } | AgentError::Protocol { .. })) => {
                        agent.end().await;
                        return Err(Failure::infrastructure("this agent cannot serve", error));
                    }
                    Err(error) => {
                        Failure::infrastructure("the session with the coordinator ended", error)
                    }
                }
            }
            Err(failure) => failure,
        };
        if *stopped.borrow() {
            agent.end().await;
            return Ok(Exit::Green);
        }
        if welcomed {
            alone_since = Instant::now();
            pause = FIRST_PAUSE;
        }
        if alone_since.elapsed() >= args.reach.give_up_after {
            agent.end().await;
            return Err(failure);
        }
        let goes_on = if agent.is_busy() {
            "; what it holds goes on"
        } else {
            ""
        };
        leave(format!("warning: {failure}; trying again{goes_on}"));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.wait_for(|down| *down) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
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
