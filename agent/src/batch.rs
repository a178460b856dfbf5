//! Facts of a run on their way to the coordinator: numbered, sent in batches that are small enough to be early and large
//! enough to be cheap, and kept until they are acknowledged, so that a session that is cut loses none.

use crate::clock::now_us;
use evenkeel_proto::v1;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// What a slot hands over at once.
pub(crate) struct Report {
    pub facts: Vec<v1::Fact>,
    /// Somebody waits for the answer: do not wait for more facts.
    pub urgent: bool,
}

/// The agent's half of a session. It ends with the session, also where the connection does not take what was sent.
#[derive(Clone)]
pub(crate) struct Stream {
    messages: mpsc::Sender<v1::AgentMessage>,
    session: watch::Receiver<()>,
}

impl Stream {
    /// The other end, and what ends it when it is dropped.
    pub(crate) fn new(
        queue: usize,
    ) -> (Stream, mpsc::Receiver<v1::AgentMessage>, watch::Sender<()>) {
        let (messages, receiver) = mpsc::channel(queue);
        let (ends, session) = watch::channel(());
        (Stream { messages, session }, receiver, ends)
    }

    /// False where the session is over.
    pub(crate) async fn send(&mut self, body: v1::agent_message::Body) -> bool {
        let message = v1::AgentMessage { body: Some(body) };
        tokio::select! {
            biased;
            _ = self.session.changed() => false,
            sent = self.messages.send(message) => sent.is_ok(),
        }
    }
}

/// What the session says of the way to the coordinator.
pub(crate) enum Way {
    /// Facts go to this stream; what is kept above the sequence goes again, first. What is not above it has been heard and
    /// may be forgotten in a crash: it is kept until it is stored.
    Open { stream: Stream, above: u64 },
    /// The coordinator has stored everything up to here.
    Stored(u64),
    /// The run is over, or lost to this agent: nobody needs an acknowledgement any more.
    Over,
}

/// A batch is sent when it has this many facts …
const FULL: usize = 1024;
/// … or this many bytes of texts …
const HEAVY: usize = 1 << 20;
/// … or when the last one was sent this long ago: a fact after a lull is on its way at once.
const PATIENCE: Duration = Duration::from_millis(20);
/// So much is kept of what is not acknowledged, in bytes, roughly; slots wait then.
const KEPT: usize = 64 << 20;
/// What a fact weighs without its texts.
const FACT: usize = 200;

/// What is kept until it is acknowledged.
#[derive(Default)]
struct Kept {
    batches: VecDeque<(usize, v1::FactBatch)>,
    weight: usize,
}

impl Kept {
    fn push(&mut self, weight: usize, batch: v1::FactBatch) {
        self.weight += weight;
        self.batches.push_back((weight, batch));
    }

    fn forget(&mut self, sequence: u64) {
        while let Some((weight, batch)) = self.batches.front() {
            if batch.first_sequence + batch.facts.len() as u64 > sequence + 1 {
                return;
            }
            self.weight -= weight;
            self.batches.pop_front();
        }
    }
}

/// Carries reports of a run until all its slots are gone and everything is acknowledged, or nobody needs that any more.
pub(crate) async fn forward(
    (run, number, opening): (String, u64, u64),
    mut reports: mpsc::Receiver<Report>,
    mut ways: mpsc::UnboundedReceiver<Way>,
) {
    let mut forward = Forward {
        run,
        number,
        opening,
        sequence: 1,
        facts: Vec::new(),
        weight: 0,
        kept: Kept::default(),
        stream: None,
        next: Instant::now(),
        due: None,
        over: false,
    };
    let mut ended = false;
    loop {
        let facts = forward.facts.len();
        let settled = forward.kept.batches.is_empty() || forward.over;
        if ended && facts == 0 && settled {
            return;
        }
        let room = !ended && forward.kept.weight < KEPT;
        let due = forward.due;
        tokio::select! {
            biased;
            way = ways.recv() => match way {
                Some(way) => forward.way(way).await,
                None => return,
            },
            report = reports.recv(), if room => match report {
                Some(report) => {
                    forward.take(report);
                    // Whatever is already here goes along.
                    while forward.has_room() && let Ok(report) = reports.try_recv() {
                        forward.take(report);
                    }
                    forward.send_if_due(false).await;
                }
                None => {
                    ended = true;
                    forward.send_if_due(true).await;
                }
            },
            () = sleep_until(due) => forward.send_if_due(true).await,
        }
    }
}

struct Forward {
    run: String,
    number: u64,
    opening: u64,
    sequence: u64,
    facts: Vec<v1::Fact>,
    weight: usize,
    kept: Kept,
    stream: Option<Stream>,
    /// When the next batch goes that nobody waits for.
    next: Instant,
    due: Option<Instant>,
    over: bool,
}

impl Forward {
    async fn way(&mut self, way: Way) {
        match way {
            Way::Open { stream, above } => {
                self.stream = Some(stream);
                let again: Vec<v1::FactBatch> = self
                    .kept
                    .batches
                    .iter()
                    .filter(|(_, batch)| {
                        batch.first_sequence + batch.facts.len() as u64 > above + 1
                    })
                    .map(|(_, batch)| batch.clone())
                    .collect();
                for batch in again {
                    self.send(batch).await;
                }
            }
            Way::Stored(sequence) => self.kept.forget(sequence),
            Way::Over => self.over = true,
        }
    }

    fn has_room(&self) -> bool {
        self.facts.len() < FULL && self.weight < HEAVY
    }

    fn take(&mut self, report: Report) {
        self.weight += report.facts.iter().map(text_weight).sum::<usize>();
        self.facts.extend(report.facts);
        if report.urgent {
            self.next = Instant::now();
        }
    }

    async fn send_if_due(&mut self, must: bool) {
        self.due = None;
        if self.facts.is_empty() {
            return;
        }
        let now = Instant::now();
        if !must && self.has_room() && now < self.next {
            self.due = Some(self.next);
            return;
        }
        let facts = std::mem::take(&mut self.facts);
        let weight = std::mem::take(&mut self.weight) + facts.len() * FACT;
        let batch = v1::FactBatch {
            run: self.run.clone(),
            number: self.number,
            opening: self.opening,
            first_sequence: self.sequence,
            sent_at_us: now_us(),
            facts,
        };
        self.sequence += batch.facts.len() as u64;
        self.next = now + PATIENCE;
        self.kept.push(weight, batch.clone());
        self.send(batch).await;
    }

    /// A stream that is gone shows here; the next one gets what is kept.
    async fn send(&mut self, batch: v1::FactBatch) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        if !stream.send(v1::agent_message::Body::Facts(batch)).await {
            self.stream = None;
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn text_weight(fact: &v1::Fact) -> usize {
    match &fact.body {
        Some(v1::fact::Body::CaseEnded(v1::CaseEnded {
            text: Some(text), ..
        })) => {
            text.message.len()
                + text.detail.len()
                + text.output.iter().map(|o| o.text.len()).sum::<usize>()
                + text.property.iter().map(|p| p.value.len()).sum::<usize>()
        }
        Some(v1::fact::Body::Declared(declared)) => declared.cases.len() * 64,
        Some(v1::fact::Body::Listed(listed)) => listed.units.len() * 64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(urgent: bool) -> Report {
        Report {
            facts: vec![v1::Fact::default()],
            urgent,
        }
    }

    async fn next(stream: &mut mpsc::Receiver<v1::AgentMessage>) -> (u64, usize) {
        match stream.recv().await.and_then(|message| message.body) {
            Some(v1::agent_message::Body::Facts(batch)) => {
                (batch.first_sequence, batch.facts.len())
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_not_acknowledged_goes_again_and_nothing_else_does() {
        let (reports, inbox) = mpsc::channel(4);
        let (ways, way) = mpsc::unbounded_channel();
        let task = tokio::spawn(forward(("r".into(), 7, 1), inbox, way));
        let (stream, mut arrived, session) = Stream::new(16);
        ways.send(Way::Open { stream, above: 0 }).ok().unwrap();
        for _ in 0..3 {
            reports.send(report(true)).await.ok().unwrap();
            next(&mut arrived).await;
        }
        ways.send(Way::Stored(1)).ok().unwrap();
        drop(session);
        // Nobody listens for a while.
        reports.send(report(true)).await.ok().unwrap();
        let (stream, mut arrived, _session) = Stream::new(16);
        ways.send(Way::Open { stream, above: 2 }).ok().unwrap();
        let mut sequence = 3;
        while sequence < 5 {
            let (first, count) = next(&mut arrived).await;
            assert_eq!(first, sequence);
            sequence += count as u64;
        }
        drop(reports);
        ways.send(Way::Stored(4)).ok().unwrap();
        task.await.unwrap();
        assert!(arrived.recv().await.is_none());
    }
}
