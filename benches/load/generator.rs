//! Agents that run nothing: they speak the protocol over real connections, as many as are wanted, in a process of their own.
//!
//! What a unit holds and how long it takes is in the command of the run's suite: `load UNITS CASES MICROSECONDS`. A unit that
//! takes no time is answered in one message, one that does when its time has passed.

use evenkeel_proto::{MAX_MESSAGE, VERSIONS, v1};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use v1::agent_message::Body as Out;
use v1::agent_service_client::AgentServiceClient;
use v1::coordinator_message::Body as In;
use v1::fact::Body;

/// What is told of, as lines on standard output.
enum Said {
    Connected,
    /// A lease came: how long the slot had had nothing behind what it ran, and nothing at all.
    Lease(Option<Duration>, Duration),
    Left,
}

/// Connects so many agents, serves until standard input is closed, and says how it went.
pub fn main(address: &str, agents: u32, slots: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (said, mut sayings) = mpsc::unbounded_channel();
        let begun = Instant::now();
        for number in 0..agents {
            let (address, said) = (address.to_owned(), said.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(&address, number, slots, &said).await {
                    // What is measured is all of them.
                    eprintln!("agent {number}: {error}");
                    std::process::exit(1);
                }
                said.send(Said::Left).ok();
            });
        }
        drop(said);
        let (asked, mut asks) = mpsc::channel::<String>(4);
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                asked.blocking_send(line).ok();
            }
        });
        let (mut connected, mut waits, mut idle) = (0, Vec::new(), Vec::new());
        loop {
            tokio::select! {
                some = sayings.recv() => match some {
                    Some(Said::Connected) => {
                        connected += 1;
                        if connected == agents {
                            println!("connected {}", begun.elapsed().as_secs_f64());
                        }
                    }
                    Some(Said::Lease(waited, idled)) => {
                        waits.extend(waited);
                        idle.push(idled);
                    }
                    Some(Said::Left) => {}
                    None => return,
                },
                ask = asks.recv() => match ask {
                    Some(_) => {
                        // What slots waited since the last time somebody asked.
                        let [waited, idled] = [&mut waits, &mut idle].map(|times: &mut Vec<Duration>| {
                            times.sort_unstable();
                            [0.5, 0.99].map(|share| {
                                let index = (times.len() as f64 * share) as usize;
                                let index = index.min(times.len().saturating_sub(1));
                                times.get(index).copied().unwrap_or_default().as_secs_f64()
                            })
                        });
                        println!(
                            "waits {} {} {} {} {}",
                            idle.len(),
                            waited[0],
                            waited[1],
                            idled[0],
                            idled[1]
                        );
                        waits.clear();
                        idle.clear();
                    }
                    None => return,
                },
            }
        }
    });
}

struct Outgoing(mpsc::Receiver<v1::AgentMessage>);

impl Stream for Outgoing {
    type Item = v1::AgentMessage;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

#[derive(Default)]
struct Slot {
    queue: VecDeque<v1::Lease>,
    busy: bool,
    begun: bool,
    /// Since when it has nothing behind what it runs, and since when nothing at all.
    asks: Option<Instant>,
    idle: Option<Instant>,
}

struct Work {
    units: u32,
    cases: u32,
    takes: Duration,
}

impl Work {
    fn of(command: &[String]) -> Work {
        let number = |at: usize| command.get(at).and_then(|word| word.parse().ok());
        Work {
            units: number(1).unwrap_or(0),
            cases: number(2).unwrap_or(0),
            takes: Duration::from_micros(number(3).unwrap_or(0).into()),
        }
    }
}

struct Run {
    work: Work,
    opening: u64,
    sequence: u64,
    slots: BTreeMap<u32, Slot>,
}

async fn serve(
    address: &str,
    number: u32,
    slots: u32,
    said: &mpsc::UnboundedSender<Said>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?;
    let channel = endpoint.tcp_nodelay(true).connect().await?;
    let mut client = AgentServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let (stream, receiver) = mpsc::channel(64);
    let origin = Instant::now();
    let hello = v1::Hello {
        min_version: VERSIONS.0,
        max_version: VERSIONS.1,
        agent: format!("load-{number}"),
        incarnation: format!("load-{}-{number}", std::process::id()),
        slots,
        ..v1::Hello::default()
    };
    send(&stream, Out::Hello(hello)).await;
    let mut incoming = client.session(Outgoing(receiver)).await?.into_inner();
    let welcome = incoming.message().await?;
    if !matches!(welcome.and_then(|w| w.body), Some(In::Welcome(_))) {
        return Err("no welcome".into());
    }
    said.send(Said::Connected).ok();
    let beats = stream.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let beat = v1::Heartbeat { clock_us: 0 };
            let body = Some(Out::Heartbeat(beat));
            if beats.send(v1::AgentMessage { body }).await.is_err() {
                return;
            }
        }
    });
    let (ended, mut ends) = mpsc::unbounded_channel::<(u64, u32, v1::Lease)>();
    let mut runs: BTreeMap<u64, Run> = BTreeMap::new();
    loop {
        let (message, end) = tokio::select! {
            message = incoming.message() => (Some(message?), None),
            end = ends.recv() => (None, end),
        };
        let mut facts: BTreeMap<u64, Vec<(u32, Body)>> = BTreeMap::new();
        if let Some((run, slot, lease)) = end
            && let Some(open) = runs.get_mut(&run)
        {
            let own = facts.entry(run).or_default();
            results(own, slot, &lease, open.work.cases);
            let state = open.slots.entry(slot).or_default();
            state.busy = false;
            if state.queue.is_empty() {
                state.idle = Some(Instant::now());
            }
            begin(own, run, open, slot, &ended);
        }
        if let Some(message) = message {
            let Some(message) = message else {
                return Ok(());
            };
            take(message, &mut runs, &mut facts, said, &ended);
        }
        for (run, own) in facts {
            let Some(open) = runs.get_mut(&run) else {
                continue;
            };
            if own.is_empty() {
                continue;
            }
            let now = origin.elapsed().as_micros() as u64;
            let fact = |(slot, body)| v1::Fact {
                at_us: now,
                slot,
                body: Some(body),
            };
            let batch = v1::FactBatch {
                run: String::new(),
                number: run,
                opening: open.opening,
                first_sequence: open.sequence,
                sent_at_us: now,
                facts: own.into_iter().map(fact).collect(),
            };
            open.sequence += batch.facts.len() as u64;
            send(&stream, Out::Facts(batch)).await;
        }
    }
}

fn take(
    message: v1::CoordinatorMessage,
    runs: &mut BTreeMap<u64, Run>,
    facts: &mut BTreeMap<u64, Vec<(u32, Body)>>,
    said: &mpsc::UnboundedSender<Said>,
    ended: &mpsc::UnboundedSender<(u64, u32, v1::Lease)>,
) {
    let number = message.run;
    let own = facts.entry(number).or_default();
    match message.body {
        Some(In::OpenRun(opening)) => {
            let work = Work::of(&opening.kinds[0].command);
            let run = runs.entry(number).or_insert(Run {
                work,
                opening: opening.opening,
                sequence: 1,
                slots: BTreeMap::new(),
            });
            for shard in opening.shards {
                run.slots.insert(shard.slot, Slot::default());
                let started = v1::ProcessStarted {
                    pid: 1,
                    runner: "load".to_owned(),
                    ..v1::ProcessStarted::default()
                };
                own.push((shard.slot, Body::ProcessStarted(started)));
            }
        }
        Some(In::List(list)) => {
            let Some(run) = runs.get(&number) else { return };
            let unit = |unit: u32| v1::ListedUnit {
                unit: format!("unit-{unit}"),
                ..v1::ListedUnit::default()
            };
            let listed = v1::Listed {
                units: (0..run.work.units).map(unit).collect(),
                more: false,
                kind: list.kind,
                ask: list.ask,
            };
            own.push((list.slot, Body::Listed(listed)));
        }
        Some(In::Lease(lease)) => {
            let Some(run) = runs.get_mut(&number) else {
                return;
            };
            let slot = lease.slot;
            let state = run.slots.entry(slot).or_default();
            let waited = state.asks.take().map(|since| since.elapsed());
            let idled = state.idle.take().map(|since| since.elapsed());
            said.send(Said::Lease(waited, idled.unwrap_or_default()))
                .ok();
            state.queue.push_back(lease);
            begin(own, number, run, slot, ended);
        }
        Some(In::Revoke(revoke)) => {
            let Some(run) = runs.get_mut(&number) else {
                return;
            };
            let state = run.slots.entry(revoke.slot).or_default();
            let before = state.queue.len();
            state.queue.retain(|lease| lease.lease != revoke.lease);
            let returned = v1::Returned {
                lease: revoke.lease,
                generation: revoke.generation,
                cases: Vec::new(),
                all: state.queue.len() < before,
            };
            own.push((revoke.slot, Body::Returned(returned)));
        }
        Some(In::Conclude(conclude)) => {
            own.push((conclude.slot, Body::Concluded(v1::Concluded {})));
        }
        Some(In::CloseSlot(close)) => {
            own.push((close.slot, Body::SlotClosed(v1::SlotClosed {})));
        }
        Some(In::CloseRun(_)) => {
            runs.remove(&number);
        }
        _ => {}
    }
}

/// Takes up the next lease of a slot, if it has nothing at work.
fn begin(
    facts: &mut Vec<(u32, Body)>,
    number: u64,
    run: &mut Run,
    slot: u32,
    ended: &mpsc::UnboundedSender<(u64, u32, v1::Lease)>,
) {
    let state = run.slots.entry(slot).or_default();
    while !state.busy {
        let Some(lease) = state.queue.pop_front() else {
            return;
        };
        let begun = v1::UnitBegun {
            lease: lease.lease,
            generation: lease.generation,
        };
        facts.push((slot, Body::UnitBegun(begun)));
        let case = |case: u32| v1::DeclaredCase {
            id: format!("{}::case-{case}", lease.unit),
            ..v1::DeclaredCase::default()
        };
        let declared = v1::Declared {
            lease: lease.lease,
            generation: lease.generation,
            cases: (0..run.work.cases).map(case).collect(),
            ..v1::Declared::default()
        };
        facts.push((slot, Body::Declared(declared)));
        if state.queue.is_empty() {
            state.asks = Some(Instant::now());
        }
        if run.work.takes.is_zero() {
            results(facts, slot, &lease, run.work.cases);
            continue;
        }
        state.busy = true;
        // So that slots do not all ask at the same moment, the first takes another part of the time in each of them.
        let first = std::mem::replace(&mut state.begun, true);
        let spread = (number_of(&lease.unit) % 997 + 1) as f64 / 997.0;
        let takes = run.work.takes;
        let takes = if first { takes } else { takes.mul_f64(spread) };
        let ended = ended.clone();
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            ended.send((number, slot, lease)).ok();
        });
    }
}

fn results(facts: &mut Vec<(u32, Body)>, slot: u32, lease: &v1::Lease, cases: u32) {
    for case in 0..cases {
        let ended = v1::CaseEnded {
            lease: lease.lease,
            generation: lease.generation,
            case,
            outcome: v1::Outcome::Passed as i32,
            duration_us: 1,
            ordinal: case,
            ..v1::CaseEnded::default()
        };
        facts.push((slot, Body::CaseEnded(ended)));
    }
    let closed = v1::UnitClosed {
        lease: lease.lease,
        generation: lease.generation,
        ..v1::UnitClosed::default()
    };
    facts.push((slot, Body::UnitClosed(closed)));
}

fn number_of(unit: &str) -> u32 {
    let number = unit.rsplit('-').next().map(str::parse);
    number.and_then(Result::ok).unwrap_or(0)
}

async fn send(stream: &mpsc::Sender<v1::AgentMessage>, body: Out) {
    // A stream that is gone shows on its other half.
    stream
        .send(v1::AgentMessage { body: Some(body) })
        .await
        .ok();
}
