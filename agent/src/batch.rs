//! Facts on their way to the coordinator: numbered, and sent in batches that are small enough to be early and large
//! enough to be cheap.

use crate::clock::now_us;
use evenkeel_proto::v1;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What a slot hands over at once.
pub(crate) struct Report {
    pub facts: Vec<v1::Fact>,
    /// Somebody waits for the answer: do not wait for more facts.
    pub urgent: bool,
}

/// A batch is sent when it has this many facts …
const FULL: usize = 1024;
/// … or this many bytes of texts …
const HEAVY: usize = 1 << 20;
/// … or when the last one was sent this long ago: a fact after a lull is on its way at once.
const PATIENCE: Duration = Duration::from_millis(20);

/// Carries reports to the session's stream until all slots of the run are gone. `sequence` is the number of the first
/// fact; the number behind the last one is returned.
pub(crate) async fn forward(
    run: String,
    mut sequence: u64,
    mut reports: mpsc::Receiver<Report>,
    stream: mpsc::Sender<v1::AgentMessage>,
) -> u64 {
    let mut facts: Vec<v1::Fact> = Vec::new();
    let mut weight = 0;
    let mut due: Option<Instant> = None;
    let mut next = Instant::now();
    loop {
        let report = match due {
            None => reports.recv().await.map(Some),
            Some(due) => match tokio::time::timeout_at(due, reports.recv()).await {
                Ok(report) => report.map(Some),
                Err(_) => Some(None),
            },
        };
        let (ended, timed_out, mut urgent) = match report {
            None => (true, false, false),
            Some(None) => (false, true, false),
            Some(Some(report)) => {
                weight += report.facts.iter().map(text_weight).sum::<usize>();
                facts.extend(report.facts);
                (false, false, report.urgent)
            }
        };
        // Whatever is already here goes along.
        while facts.len() < FULL && weight < HEAVY {
            let Ok(report) = reports.try_recv() else {
                break;
            };
            weight += report.facts.iter().map(text_weight).sum::<usize>();
            facts.extend(report.facts);
            urgent |= report.urgent;
        }
        let full = facts.len() >= FULL || weight >= HEAVY;
        let now = Instant::now();
        if !facts.is_empty() && (ended || timed_out || urgent || full || now >= next) {
            let count = facts.len() as u64;
            let batch = v1::FactBatch {
                run: run.clone(),
                first_sequence: sequence,
                sent_at_us: now_us(),
                facts: std::mem::take(&mut facts),
            };
            sequence += count;
            weight = 0;
            due = None;
            next = now + PATIENCE;
            let body = Some(v1::agent_message::Body::Facts(batch));
            if stream.send(v1::AgentMessage { body }).await.is_err() {
                return sequence;
            }
        } else if !facts.is_empty() {
            due = Some(next);
        }
        if ended {
            return sequence;
        }
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
