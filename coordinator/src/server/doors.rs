//! Ways between tasks. What a slow agent, watcher or run makes wait is itself only.

use super::hub::Notice;
use super::run_task::RunMessage;
use crate::run::{AgentId, Event};
use evenkeel_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

/// How many messages may wait for an agent before it counts as one that does not listen.
const AGENT_QUEUE: usize = 8192;
/// How many messages may wait for a run; agents wait then.
const RUN_QUEUE: usize = 256;

/// To an agent. Never waits: who does not listen is cut off, and comes again when it does.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    messages: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    /// What it understands.
    version: u32,
}

impl Outbox {
    pub(super) fn new(
        version: u32,
    ) -> (
        Outbox,
        mpsc::Receiver<Result<v1::CoordinatorMessage, Status>>,
    ) {
        let (messages, receiver) = mpsc::channel(AGENT_QUEUE);
        (Outbox { messages, version }, receiver)
    }

    /// False where it does not listen.
    #[must_use]
    pub(super) fn send(&self, message: v1::CoordinatorMessage) -> bool {
        if self.version < 2
            && let Some(v1::coordinator_message::Body::Lease(lease)) = &message.body
        {
            let (slot, fresh, last) = (lease.slot, lease.fresh, lease.last);
            return (!fresh || self.recycle(slot))
                && self.say(message)
                && (!last || self.recycle(slot));
        }
        self.say(message)
    }

    fn say(&self, message: v1::CoordinatorMessage) -> bool {
        self.messages.try_send(Ok(message)).is_ok()
    }

    /// Before version 2 a lease did not say that it wants a process of its own.
    fn recycle(&self, slot: u32) -> bool {
        let recycle = v1::Recycle { slot };
        self.say(Outbox::body(v1::coordinator_message::Body::Recycle(
            recycle,
        )))
    }

    /// The last that it hears.
    pub(super) fn end(&self, status: Status) {
        self.messages.try_send(Err(status)).ok();
    }

    pub(super) fn body(body: v1::coordinator_message::Body) -> v1::CoordinatorMessage {
        v1::CoordinatorMessage {
            body: Some(body),
            run: 0,
        }
    }
}

/// To a run: what agents and clients say, over a bounded queue, and what the hub says, which never waits.
#[derive(Clone)]
pub(super) struct RunDoor {
    events: mpsc::Sender<RunMessage>,
    /// Unbounded: a word of the hub comes of an agent's coming, going or being wanted, and is small.
    words: mpsc::UnboundedSender<RunMessage>,
}

pub(super) struct RunInbox {
    pub events: mpsc::Receiver<RunMessage>,
    pub words: mpsc::UnboundedReceiver<RunMessage>,
}

impl RunDoor {
    pub(super) fn new() -> (RunDoor, RunInbox) {
        let (events, events_inbox) = mpsc::channel(RUN_QUEUE);
        let (words, words_inbox) = mpsc::unbounded_channel();
        let inbox = RunInbox {
            events: events_inbox,
            words: words_inbox,
        };
        (RunDoor { events, words }, inbox)
    }

    /// Waits for room. False where the run is over.
    pub(super) async fn send(&self, message: RunMessage) -> bool {
        self.events.send(message).await.is_ok()
    }

    /// False where the run is over.
    pub(super) fn tell(&self, message: RunMessage) -> bool {
        self.words.send(message).is_ok()
    }

    pub(super) fn event(&self, event: Event) {
        // A run that is over needs no telling.
        self.tell(RunMessage::Event(event));
    }
}

impl RunInbox {
    /// The next messages, those of the hub first. False where nobody is left who could send any.
    pub(super) async fn next(&mut self, messages: &mut Vec<RunMessage>) -> bool {
        let message = tokio::select! {
            biased;
            message = self.words.recv() => message,
            message = self.events.recv() => message,
        };
        let some = message.is_some();
        messages.extend(message);
        // What is here already goes along, in the order in which it came.
        while let Ok(message) = self.words.try_recv() {
            messages.push(message);
        }
        while messages.len() < RUN_QUEUE
            && let Ok(message) = self.events.try_recv()
        {
            messages.push(message);
        }
        some
    }

    /// Nothing more is taken in. What came before and was not looked at is here.
    pub(super) fn close(mut self) -> Vec<RunMessage> {
        self.words.close();
        self.events.close();
        let words = std::iter::from_fn(|| self.words.try_recv().ok());
        let mut rest: Vec<RunMessage> = words.collect();
        rest.extend(std::iter::from_fn(|| self.events.try_recv().ok()));
        rest
    }
}

/// From runs to the hub. Unbounded: a notice comes of a slot, an agent or the end of a run.
#[derive(Clone)]
pub(super) struct HubDoor(pub mpsc::UnboundedSender<Notice>);

impl HubDoor {
    pub(super) fn tell(&self, notice: Notice) {
        // A hub that is gone takes its runs with it.
        self.0.send(notice).ok();
    }

    pub(super) fn deaf(&self, agent: AgentId) {
        let reason = "it does not take what it is sent".to_owned();
        self.tell(Notice::Cut { agent, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came to a run while it ended was dropped unseen: an agent that came back in that moment was never told that it was over, and
    /// did not end when it was told to go.
    #[tokio::test]
    async fn what_comes_while_a_run_ends_is_seen_or_refused() {
        let (door, inbox) = RunDoor::new();
        let tick = || RunMessage::Event(Event::Tick);
        assert!(door.tell(tick()));
        assert!(door.send(tick()).await);
        assert_eq!(inbox.close().len(), 2);
        assert!(!door.tell(tick()));
        assert!(!door.send(tick()).await);
    }
}
