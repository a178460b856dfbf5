//! An agent that is played by hand, message by message, to do what no real one does. It has no processes: what it is given
//! to run passes at once.

use evenkeel_proto::{MAX_MESSAGE, v1};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use v1::agent_message::Body as Say;
use v1::agent_service_client::AgentServiceClient;
use v1::coordinator_message::Body as Hear;
use v1::fact::Body as Fact;

/// Nothing that is waited for takes as long.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// What its suite has.
pub const UNITS: u32 = 6;
pub const CASES: u32 = 4;

pub struct Hand {
    outgoing: mpsc::Sender<v1::AgentMessage>,
    incoming: Streaming<v1::CoordinatorMessage>,
    pub welcome: v1::Welcome,
    /// The run that it serves, as it was opened to it.
    pub run: Option<v1::OpenRun>,
    pub sequence: u64,
    /// Leases that it was given, in their order.
    pub leases: Vec<v1::Lease>,
    /// Whether it answers what it is asked.
    pub idle: bool,
    incarnations: BTreeMap<u32, u32>,
}

/// A hello as a real agent of this version says it.
pub fn hello(name: &str) -> v1::Hello {
    v1::Hello {
        min_version: 1,
        max_version: 2,
        agent: name.to_owned(),
        incarnation: format!("incarnation of {name}"),
        slots: 1,
        labels: [("hand".to_owned(), "yes".to_owned())].into(),
        ..v1::Hello::default()
    }
}

pub fn say(body: Say) -> v1::AgentMessage {
    v1::AgentMessage { body: Some(body) }
}

/// Opens a session with these messages and nothing else; what comes first.
pub async fn open(
    address: &str,
    first: Vec<v1::AgentMessage>,
) -> Result<
    (
        mpsc::Sender<v1::AgentMessage>,
        Streaming<v1::CoordinatorMessage>,
    ),
    Status,
> {
    let client = AgentServiceClient::connect(format!("http://{address}")).await;
    let mut client = client
        .unwrap()
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(4 * MAX_MESSAGE);
    let (outgoing, queue) = mpsc::channel(64);
    for message in first {
        outgoing.send(message).await.unwrap();
    }
    let queue = tokio_stream::wrappers::ReceiverStream::new(queue);
    let session = client.session(queue).await?.into_inner();
    Ok((outgoing, session))
}

impl Hand {
    pub async fn come(address: &str, hello: v1::Hello) -> Result<Hand, Status> {
        let (outgoing, mut incoming) = open(address, vec![say(Say::Hello(hello))]).await?;
        let first = incoming.message().await?.and_then(|message| message.body);
        let Some(Hear::Welcome(welcome)) = first else {
            panic!("no welcome but {first:?}");
        };
        let (beats, every) = (outgoing.clone(), Duration::from_millis(200));
        tokio::spawn(async move {
            let beat = || say(Say::Heartbeat(v1::Heartbeat::default()));
            while beats.send(beat()).await.is_ok() {
                tokio::time::sleep(every).await;
            }
        });
        Ok(Hand {
            outgoing,
            incoming,
            welcome,
            run: None,
            sequence: 0,
            leases: Vec::new(),
            idle: false,
            incarnations: BTreeMap::new(),
        })
    }

    pub async fn say(&self, body: Say) {
        self.outgoing.send(say(body)).await.ok();
    }

    /// The facts as the next of their run, in the words of the version that it speaks.
    pub fn batch(&self, facts: Vec<Fact>) -> v1::FactBatch {
        let run = self.run.clone().unwrap_or_default();
        let facts = facts.into_iter().map(|body| v1::Fact {
            at_us: 1,
            slot: 0,
            body: Some(body),
        });
        let second = self.welcome.version >= 2;
        v1::FactBatch {
            run: run.run,
            first_sequence: self.sequence + 1,
            sent_at_us: 1,
            facts: facts.collect(),
            number: if second { run.number } else { 0 },
            opening: if second { run.opening } else { 0 },
        }
    }

    pub async fn tell(&mut self, facts: Vec<Fact>) {
        let batch = self.batch(facts);
        self.sequence += batch.facts.len() as u64;
        self.say(Say::Facts(batch)).await;
    }

    /// The next message, or how the session ended.
    pub async fn hear(&mut self) -> Result<Option<v1::CoordinatorMessage>, Status> {
        let message = tokio::time::timeout(PATIENCE, self.incoming.message());
        message.await.expect("an answer in time")
    }

    /// Hears the session's end.
    pub async fn end(&mut self) -> Status {
        loop {
            match self.hear().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("it was ended without a word"),
                Err(status) => return status,
            }
        }
    }

    /// Serves until the condition holds. False where its run was closed before.
    pub async fn serve(&mut self, mut until: impl FnMut(&Hand) -> bool) -> bool {
        while !until(self) {
            let message = self.hear().await.unwrap().expect("a session that goes on");
            if self.take(message.body.unwrap()).await {
                return false;
            }
        }
        true
    }

    /// Does what it is told; whether its run is over.
    async fn take(&mut self, message: Hear) -> bool {
        match message {
            Hear::OpenRun(run) => {
                let kind = run.shards[0].kind;
                self.run = Some(run);
                self.start(kind).await;
            }
            Hear::List(list) => {
                let unit = |unit| v1::ListedUnit {
                    unit: format!("unit-{unit}"),
                    ..v1::ListedUnit::default()
                };
                let listed = v1::Listed {
                    units: (0..UNITS).map(unit).collect(),
                    more: false,
                    kind: list.kind,
                    ask: list.ask,
                };
                self.tell(vec![Fact::Listed(listed)]).await;
            }
            Hear::Lease(lease) => {
                self.leases.push(lease.clone());
                if !self.idle {
                    self.tell(passes(&lease)).await;
                }
            }
            Hear::Revoke(revoke) => {
                let returned = v1::Returned {
                    lease: revoke.lease,
                    generation: revoke.generation,
                    ..v1::Returned::default()
                };
                self.tell(vec![Fact::Returned(returned)]).await;
            }
            Hear::Recycle(_) => {
                self.finish().await;
                self.start(0).await;
            }
            Hear::Conclude(_) => {
                self.finish().await;
                self.tell(vec![Fact::Concluded(v1::Concluded {})]).await;
            }
            Hear::CloseSlot(_) => {
                self.finish().await;
                self.tell(vec![Fact::SlotClosed(v1::SlotClosed {})]).await;
            }
            Hear::CloseRun(_) => {
                self.tell(vec![Fact::SlotClosed(v1::SlotClosed {})]).await;
                return true;
            }
            _ => {}
        }
        false
    }

    async fn start(&mut self, kind: u32) {
        let number = self.incarnations.entry(0).or_default();
        let started = v1::ProcessStarted {
            incarnation: *number,
            pid: 1,
            runner: "noop".to_owned(),
            framework: "noop".to_owned(),
            can: ["list", "revoke"].map(str::to_owned).into(),
            kind,
            ..v1::ProcessStarted::default()
        };
        *number += 1;
        self.tell(vec![Fact::ProcessStarted(started)]).await;
    }

    async fn finish(&mut self) {
        let ended = v1::ProcessEnded {
            incarnation: self.incarnations[&0] - 1,
            cause: v1::process_ended::Cause::Finished as i32,
            ..v1::ProcessEnded::default()
        };
        self.tell(vec![Fact::ProcessEnded(ended)]).await;
    }
}

/// What a process tells of a lease in which everything passes.
pub fn passes(lease: &v1::Lease) -> Vec<Fact> {
    let all = (0..CASES).map(|case| format!("{}::case-{case}", lease.unit));
    let named = |keys: &[v1::CaseKey], id: &String| keys.iter().any(|key| key.id == *id);
    let own = all
        .filter(|id| (lease.only.is_empty() || named(&lease.only, id)) && !named(&lease.skip, id));
    let cases: Vec<v1::DeclaredCase> = own
        .map(|id| v1::DeclaredCase {
            id,
            ..v1::DeclaredCase::default()
        })
        .collect();
    let (lease, generation) = (lease.lease, lease.generation);
    let count = cases.len() as u32;
    let mut facts = vec![
        Fact::UnitBegun(v1::UnitBegun { lease, generation }),
        Fact::Declared(v1::Declared {
            lease,
            generation,
            cases,
            ..v1::Declared::default()
        }),
    ];
    facts.extend((0..count).map(|case| Fact::CaseEnded(passed(lease, generation, case))));
    facts.push(Fact::UnitClosed(v1::UnitClosed {
        lease,
        generation,
        ..v1::UnitClosed::default()
    }));
    facts
}

pub fn passed(lease: u64, generation: u32, case: u32) -> v1::CaseEnded {
    v1::CaseEnded {
        lease,
        generation,
        case,
        outcome: v1::Outcome::Passed as i32,
        started_at_us: 1,
        duration_us: 1,
        ..v1::CaseEnded::default()
    }
}
