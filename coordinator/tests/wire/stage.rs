//! Processes that are played: each speaks the runner protocol with its slot as a real one does, and does what its cases do.

use crate::suite::{Behaviour, Play, Unit};
use evenkeel_agent::{Played, Stage};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

/// What all machines of a world share.
#[derive(Default)]
pub struct Floor {
    pub plays: Vec<Play>,
    /// Machines that went down with a test.
    pub downed: Vec<String>,
    /// Cases whose process has been killed from outside.
    pub killed: HashSet<(String, String)>,
    /// How often each case was started.
    pub started: HashMap<(String, String), u32>,
    pub starts: Vec<Start>,
}

/// A case that was started.
pub struct Start {
    pub at: Duration,
    pub machine: String,
    pub run: String,
    pub lease: u64,
    pub id: String,
}

/// A machine on which processes are played.
pub struct Machine {
    pub name: String,
    pub floor: Arc<Mutex<Floor>>,
}

impl Stage for Machine {
    fn enter(&self, argv: &[String], environment: &[(String, Option<String>)]) -> Played {
        let (connection, own) = tokio::io::duplex(64 << 10);
        let (ends, ended) = oneshot::channel();
        let (lifeline, mut killed) = oneshot::channel();
        let role = environment.iter().find(|(name, _)| name == "EVENKEEL_ROLE");
        let concludes = role.is_some_and(|(_, role)| role.as_deref() == Some("finish"));
        let play = {
            let floor = self.floor.lock().expect("nobody panics with it");
            let play = floor.plays.iter().find(|play| play.run == argv[1]);
            play.expect("a run that was submitted").clone()
        };
        let (name, floor) = (self.name.clone(), Arc::clone(&self.floor));
        tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(own);
            let process = Process {
                machine: name,
                floor,
                play,
                concludes,
                writer,
                operations: listen(reader),
                pending: VecDeque::new(),
                begun: Instant::now(),
                granted: HashMap::new(),
            };
            tokio::select! {
                biased;
                _ = &mut killed => drop(ends),
                status = process.run() => drop(ends.send(status)),
            }
        });
        Played {
            connection,
            ended,
            lifeline,
        }
    }
}

/// Operations as they come.
fn listen(reader: ReadHalf<DuplexStream>) -> mpsc::UnboundedReceiver<Value> {
    let (sender, operations) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let operation = serde_json::from_str(&line).expect("an operation is JSON");
            if sender.send(operation).is_err() {
                return;
            }
        }
    });
    operations
}

struct Process {
    machine: String,
    floor: Arc<Mutex<Floor>>,
    play: Play,
    concludes: bool,
    writer: WriteHalf<DuplexStream>,
    operations: mpsc::UnboundedReceiver<Value>,
    /// Heard and not carried out yet.
    pending: VecDeque<Value>,
    begun: Instant,
    granted: HashMap<u64, u64>,
}

/// The process is over.
struct Over(ExitStatus);

type Alive<T> = Result<T, Over>;

fn signal(signal: i32) -> Over {
    Over(ExitStatus::from_raw(signal))
}

impl Process {
    async fn run(mut self) -> ExitStatus {
        let Err(Over(status)) = self.serve().await else {
            unreachable!("a process serves until it is over");
        };
        status
    }

    async fn serve(&mut self) -> Alive<()> {
        sleep(self.play.starts).await;
        let mut can = vec!["list", "revoke"];
        if self.play.grants {
            can.push("grant");
        }
        let hello = json!({
            "event": "hello", "protocol": 1, "runner": "played", "framework": "played", "language": "", "pid": 0,
            "at": self.at(), "can": can, "notes": [], "run_wide": {},
            "closing": self.play.closing, "finish": self.play.finish,
        });
        self.say(hello).await?;
        loop {
            let operation = self.next().await?;
            match operation["op"].as_str() {
                Some("list") => self.list().await?,
                Some("run") => self.lease(&operation).await?,
                Some("revoke") => {
                    let lease = operation["lease"].as_u64().unwrap_or_default();
                    let queued = self.queued("run", lease).filter(|_| operation["from"] == 0);
                    let all = queued.is_some();
                    queued.map(|queued| self.pending.remove(queued));
                    self.say(json!({"event": "returned", "lease": lease, "cases": [], "all": all}))
                        .await?;
                }
                Some("stop") if self.pending.iter().any(|next| next["op"] == "run") => {
                    self.pending.push_back(operation);
                }
                Some("stop") => {
                    let carry = if self.play.finish && !self.concludes {
                        "carried"
                    } else {
                        ""
                    };
                    self.say(json!({"event": "bye", "carry": carry})).await?;
                    return Err(Over(ExitStatus::from_raw(0)));
                }
                Some("idle" | "grant" | "finish") => self.note(&operation),
                other => panic!("unknown operation {other:?}"),
            }
        }
    }

    fn at(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    async fn say(&mut self, event: Value) -> Alive<()> {
        let line = format!("{event}\n");
        let said = self.writer.write_all(line.as_bytes()).await;
        said.map_err(|_| signal(libc::SIGKILL))
    }

    /// What comes next; who is without an agent ends.
    async fn next(&mut self) -> Alive<Value> {
        match self.pending.pop_front() {
            Some(operation) => Ok(operation),
            None => self.operations.recv().await.ok_or(signal(libc::SIGKILL)),
        }
    }

    fn queued(&self, what: &str, lease: u64) -> Option<usize> {
        let mut pending = self.pending.iter();
        pending.position(|next| next["op"] == what && next["lease"] == lease)
    }

    /// Takes in a grant.
    fn note(&mut self, operation: &Value) {
        if operation["op"] == "grant" {
            let lease = operation["lease"].as_u64().unwrap_or_default();
            let to = operation["to"].as_u64().unwrap_or_default();
            let granted = self.granted.entry(lease).or_default();
            *granted = to.max(*granted);
        }
    }

    /// Hears what has come meanwhile.
    fn hear(&mut self) {
        while let Ok(operation) = self.operations.try_recv() {
            self.note(&operation);
            self.pending.push_back(operation);
        }
    }

    async fn list(&mut self) -> Alive<()> {
        let names: Vec<String> = self
            .play
            .units
            .iter()
            .map(|unit| unit.name.clone())
            .collect();
        let pieces: Vec<&[String]> = if self.play.listing.is_zero() {
            vec![&names]
        } else {
            names.chunks(2).collect()
        };
        let last = pieces.len().saturating_sub(1);
        if pieces.is_empty() {
            sleep(self.play.listing).await;
            return self
                .say(json!({"event": "listed", "units": [], "more": false}))
                .await;
        }
        for (number, piece) in pieces.into_iter().enumerate() {
            sleep(self.play.listing).await;
            let units: Vec<Value> = piece.iter().map(|name| json!({"unit": name})).collect();
            self.say(json!({"event": "listed", "units": units, "more": number < last}))
                .await?;
        }
        Ok(())
    }

    async fn lease(&mut self, operation: &Value) -> Alive<()> {
        let lease = operation["lease"].as_u64().expect("a lease has a number");
        let name = operation["unit"].as_str().expect("a lease names a unit");
        let units = self.play.units.iter();
        let unit = units.clone().find(|unit| unit.name == name);
        let unit = unit.expect("a unit that was listed").clone();
        if let Some(to) = operation["grant"].as_u64() {
            self.granted.insert(lease, to);
        } else {
            self.granted.insert(lease, u64::MAX);
        }
        let named = |key: &str| -> HashSet<&str> {
            let cases = operation[key].as_array().into_iter().flatten();
            cases.filter_map(|case| case["id"].as_str()).collect()
        };
        let (only, skip) = (named("only"), named("skip"));
        let mine: Vec<usize> = (0..unit.cases.len())
            .filter(|case| {
                let id = unit.id(*case);
                (only.is_empty() || only.contains(&*id)) && !skip.contains(&*id)
            })
            .collect();
        self.say(json!({"event": "begin", "lease": lease, "at": self.at()}))
            .await?;
        sleep(unit.loads).await;
        let ids: Vec<String> = mine.iter().map(|case| unit.id(*case)).collect();
        self.say(json!({"event": "declare", "lease": lease, "cases": ids, "more": false}))
            .await?;
        let mut end = mine.len();
        let mut index = 0;
        loop {
            self.hear();
            end = self.revoked(lease, index, end).await?;
            if index >= end {
                break;
            }
            if index as u64 >= self.granted[&lease] {
                let waiting = json!({
                    "event": "waiting", "lease": lease, "case": index.saturating_sub(1), "at": self.at(),
                });
                self.say(waiting).await?;
                let heard = self.operations.recv().await.ok_or(signal(libc::SIGKILL))?;
                self.note(&heard);
                self.pending.push_back(heard);
                continue;
            }
            let last = index + 1 == end;
            self.case(lease, index, &unit, mine[index], last).await?;
            index += 1;
        }
        self.say(json!({"event": "close", "lease": lease, "at": self.at(), "setup_us": 0}))
            .await
    }

    /// Gives back what was revoked of the lease at work; the new end of its cases.
    async fn revoked(&mut self, lease: u64, next: usize, end: usize) -> Alive<usize> {
        let mut end = end;
        while let Some(queued) = self.queued("revoke", lease) {
            let operation = self.pending.remove(queued).unwrap_or_default();
            let from = operation["from"].as_u64().unwrap_or_default() as usize;
            let from = from.clamp(next, end);
            let cases: Vec<usize> = (from..end).collect();
            end = from;
            self.say(json!({"event": "returned", "lease": lease, "cases": cases, "all": false}))
                .await?;
        }
        Ok(end)
    }

    async fn case(
        &mut self,
        lease: u64,
        index: usize,
        unit: &Unit,
        case: usize,
        last: bool,
    ) -> Alive<()> {
        let (behaviour, duration) = unit.cases[case];
        let key = (self.play.run.clone(), unit.id(case));
        let at = self.at();
        self.say(json!({"event": "start", "lease": lease, "case": index, "at": at}))
            .await?;
        let once = {
            let mut floor = self.floor.lock().expect("nobody panics with it");
            *floor.started.entry(key.clone()).or_default() += 1;
            floor.starts.push(Start {
                at: turmoil::sim_elapsed().unwrap_or_default(),
                machine: self.machine.clone(),
                run: key.0.clone(),
                lease,
                id: key.1.clone(),
            });
            behaviour == Behaviour::KilledOnce && floor.killed.insert(key)
        };
        sleep(duration).await;
        match behaviour {
            Behaviour::Crash => return Err(signal(libc::SIGSEGV)),
            Behaviour::KilledOnce if once => return Err(signal(libc::SIGKILL)),
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Poison => {
                let machine = self.machine.clone();
                self.floor
                    .lock()
                    .expect("nobody panics with it")
                    .downed
                    .push(machine);
                std::future::pending().await
            }
            Behaviour::Pass | Behaviour::Fail | Behaviour::Skip | Behaviour::KilledOnce => {}
        }
        let took = self.at() - at;
        if last && self.play.lingers {
            self.linger(lease, index).await?;
        }
        let outcome = match behaviour {
            Behaviour::Fail => "failed",
            Behaviour::Skip => "skipped",
            _ => "passed",
        };
        let ended = json!({
            "event": "end", "lease": lease, "case": index, "at": self.at(), "outcome": outcome, "duration_us": took,
        });
        self.say(ended).await
    }

    /// The last case is done but for its tear-down, which depends on what comes next. A listing does not tell.
    async fn linger(&mut self, lease: u64, index: usize) -> Alive<()> {
        self.hear();
        let tells = |next: &Value| {
            let what = next["op"].as_str().unwrap_or_default();
            matches!(what, "run" | "idle" | "stop") || what == "revoke" && next["lease"] == lease
        };
        while !self.pending.iter().any(tells) {
            let waiting =
                json!({"event": "waiting", "lease": lease, "case": index, "at": self.at()});
            self.say(waiting).await?;
            let heard = self.operations.recv().await.ok_or(signal(libc::SIGKILL))?;
            self.note(&heard);
            self.pending.push_back(heard);
        }
        Ok(())
    }
}
