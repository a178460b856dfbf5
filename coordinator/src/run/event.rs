//! What a run hears and what it answers: the closed sets of events and effects.

use evenkeel_proto::ledger as l;
use evenkeel_schedule::Micros;

/// Number of an agent's session with one run, given out by the shell and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub u64);

#[derive(Clone, Debug)]
pub enum Event {
    /// What earlier runs tell. The plan waits for it.
    History(super::History),
    /// Slots of an agent serve the run from now on; it may have some already.
    AgentJoined(AgentJoined),
    /// The connection to an agent is gone. What it holds stands until it is back or gone.
    AgentCut { agent: AgentId },
    /// An agent that was cut off, or that an earlier coordinator knew, is here again.
    AgentBack(AgentBack),
    /// The agent said goodbye, or nothing was heard of it for too long.
    AgentGone {
        agent: AgentId,
        reason: String,
        lost: bool,
    },
    Facts {
        agent: AgentId,
        /// Under which it told them, as [`Command::Open`] gave it; 0 from agents that know of none.
        opening: u64,
        first_sequence: u64,
        sent_at: Micros,
        facts: Vec<Fact>,
    },
    /// These slots of an agent are wanted elsewhere; all of them where the agent leaves. What runs may finish its case.
    Release { agent: AgentId, slots: Vec<u32> },
    /// So many slots of this agent are wanted elsewhere: the run says which.
    Spare { agent: AgentId, count: u32 },
    /// Whether any agent is there that could serve the run.
    Matching { any: bool },
    /// Everything appended before the effect [`Effect::CallWhenStored`] is durable.
    Stored,
    /// End early. What runs may finish until the grace is over; the rest gets no verdict.
    Stop {
        reason: String,
        interrupted: bool,
        grace: Micros,
    },
    /// Time passed. Sent at the instant that [`super::Run::wake_at`] named, or later.
    Tick,
}

#[derive(Clone, Debug)]
pub struct AgentJoined {
    pub agent: AgentId,
    pub name: String,
    pub incarnation: String,
    pub environment_class: String,
    /// The agent's own slots, from 0, that are the run's from now on.
    pub slots: Vec<u32>,
    /// The agent's clock as it said hello.
    pub clock: Micros,
}

#[derive(Clone, Debug)]
pub struct AgentBack {
    /// Its number from now on.
    pub agent: AgentId,
    pub incarnation: String,
    /// As [`Command::Open`] gave it.
    pub opening: u64,
    /// The slots that it has open for this run.
    pub slots: Vec<u32>,
    pub clock: Micros,
}

/// Something that happened on a slot. `at` and all other times are on the agent's clock.
#[derive(Clone, Debug)]
pub struct Fact {
    pub at: Micros,
    pub slot: u32,
    pub body: FactBody,
}

#[derive(Clone, Debug)]
pub enum FactBody {
    ProcessStarted(ProcessStarted),
    ProcessRefused(Refusal),
    ProcessEnded(ProcessEnded),
    /// Of the suite whose kind of process this is, as it was asked.
    Listed {
        kind: u32,
        ask: u64,
        units: Vec<l::Unit>,
        more: bool,
    },
    UnitBegun {
        lease: u64,
    },
    Declared {
        lease: u64,
        cases: Vec<l::Case>,
        more: bool,
        /// Where a case that the lease names is not there: what the unit has in this process.
        instead: Vec<CaseKey>,
    },
    CaseEnded(CaseEnded),
    UnitClosed {
        lease: u64,
        setup: Micros,
        /// Of its time, what passed until the slot knew what comes next.
        waited: Micros,
    },
    Returned {
        lease: u64,
        cases: Vec<u32>,
        all: bool,
    },
    CaseRunning {
        lease: u64,
        case: u32,
    },
    /// The slot cannot finish its last case without knowing what comes next.
    Waiting {
        lease: u64,
    },
    /// The framework wants the whole run to end.
    Halt {
        reason: String,
    },
    Log {
        level: Level,
        text: String,
    },
    Warnings {
        list: Vec<l::Warned>,
    },
    /// The slot has no process any more, as it was asked.
    Concluded,
    SlotClosed,
}

#[derive(Clone, Debug, Default)]
pub struct ProcessStarted {
    pub kind: u32,
    /// From its start until it was ready.
    pub took: Micros,
    pub incarnation: u32,
    pub pid: u32,
    pub argv: Vec<String>,
    pub directory: String,
    pub environment: Vec<(String, String)>,
    pub runner: String,
    pub framework: String,
    pub language: String,
    pub notes: Vec<String>,
    pub max_fail: u32,
    pub junit: String,
    /// The framework may have something to say at its end: the verdict waits for that.
    pub closing: bool,
    /// When all processes have ended, one more has to conclude the run as a whole.
    pub finish: bool,
    /// It runs several units at once: it wants all that it is to have together.
    pub bundles: bool,
    /// It does not divide units: their cases are known when they are over.
    pub undivided: bool,
    pub durations: u32,
    pub durations_min: Micros,
    pub show_output: bool,
}

/// The framework does not run the user's command.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Of process.
    pub kind: u32,
    pub reason: RefusedReason,
    pub message: String,
    pub hint: String,
    /// What a build said that failed.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    Usage,
    Unsupported,
    Broken,
    /// The tests could not be built.
    Build,
    /// A set-up command failed: no process has been started, and none will be in this slot.
    Setup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Info,
    Warning,
    Error,
    /// What is being done: for display only, not on record.
    Progress,
}

#[derive(Clone, Debug)]
pub struct ProcessEnded {
    pub kind: u32,
    pub incarnation: u32,
    pub cause: EndCause,
    pub in_flight: Option<InFlight>,
    /// One line that says how it ended.
    pub explanation: String,
    /// The end of what it wrote to standard error.
    pub stderr_tail: String,
    pub farewell: Option<Farewell>,
}

/// What a framework says at the end of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Farewell {
    /// Why it fails the run although no test did: a line, and the long text.
    pub failed: Vec<(String, String)>,
    /// What it would print: title and text.
    pub summary: Vec<(String, String)>,
    /// For the process that concludes the run, opaque.
    pub carry: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// As it was asked to.
    Finished,
    /// Somebody outside killed it: an operator, or the kernel for want of memory.
    KilledFromOutside,
    /// By itself: it exited or died of a signal of its own making.
    Died,
    /// A case ran past its deadline.
    Deadline,
    /// It broke the runner protocol.
    Protocol,
    /// The agent ended it because it was told to.
    Ended,
}

#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    pub lease: u64,
    /// The case that was running.
    pub case: Option<RunningCase>,
    /// The unit had not been loaded yet.
    pub loading: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct RunningCase {
    pub index: u32,
    pub started: Micros,
    pub ordinal: u32,
}

#[derive(Clone, Debug)]
pub struct CaseEnded {
    pub lease: u64,
    pub generation: u32,
    pub case: u32,
    pub outcome: crate::record::Outcome,
    pub started: Micros,
    pub duration: Micros,
    /// Of its time, what set up things that cases of its unit share.
    pub setup: Micros,
    pub ordinal: u32,
    pub text: Option<Box<CaseText>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseText {
    pub message: String,
    pub detail: String,
    pub output: Vec<(String, String)>,
    pub properties: Vec<(String, String)>,
}

/// What the shell has to do, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Append one row to the ledger.
    Append(l::Batch),
    /// Append to the run's store of outputs, at the offset that the ledger will name.
    StoreText {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Once everything appended before is durable, send [`Event::Stored`].
    CallWhenStored,
    /// Once everything appended before is durable, tell the agent that it may forget facts up to here.
    Ack {
        agent: AgentId,
        sequence: u64,
    },
    Send {
        agent: AgentId,
        command: Command,
    },
    /// For those who watch, once everything appended before is durable; not recorded by itself.
    Show(Show),
    /// An agent told what cannot be: its session is ended, and it may begin another.
    Cut {
        agent: AgentId,
        reason: String,
    },
    /// Once everything appended before is durable, a slot is not the run's any more. Sooner, a crash could have it opened
    /// twice, and what the first says at its end would be taken for the second's. `unfit`: the run does not want it, or another one of its agent, again.
    Free {
        agent: AgentId,
        slot: u32,
        unfit: bool,
    },
    /// The verdict is in the ledger. Once it is durable, write the reports and tell those who wait.
    Close,
}

#[derive(Clone, Debug)]
pub enum Show {
    Failure {
        id: String,
        outcome: crate::record::Outcome,
        shard: u32,
        duration: Micros,
        text: CaseText,
    },
    Notice {
        level: Level,
        text: String,
    },
    /// What a case that did not fail printed, where the user wants to see that.
    Printed {
        id: String,
        shard: u32,
        output: Vec<(String, String)>,
    },
}

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start the slots: of each its number, its shard, and the kind of its first process.
    Open {
        /// Names what the agent has of the run, from its joining to its end.
        opening: u64,
        slots: u32,
        shards: Vec<(u32, u32, u32)>,
        /// How many failures end the run, if that is known already.
        max_fail: Option<u32>,
    },
    List {
        slot: u32,
        kind: u32,
        /// An ask that came before is not answered twice.
        ask: u64,
    },
    Lease(LeaseCommand),
    Revoke {
        slot: u32,
        lease: u64,
        generation: u32,
        from: u32,
    },
    Idle {
        slot: u32,
        /// As for a lease: a process that has taken the place of the one that was meant is not.
        ends: u32,
    },
    Recycle {
        slot: u32,
    },
    /// End the process: nothing more will be run on it.
    Conclude {
        slot: u32,
    },
    /// Start a process that concludes the run as a whole: pairs of shard and what its process carried.
    Finish {
        slot: u32,
        kind: u32,
        /// An ask that came before is not answered twice.
        ask: u64,
        carried: Vec<(u32, String)>,
        more: bool,
    },
    /// The lease has ended: what is queued is dropped, and a process that has it at work is ended.
    Cancel {
        slot: u32,
        lease: u64,
    },
    /// The slot is not the run's any more when it has ended what it holds.
    CloseSlot {
        slot: u32,
        abort: bool,
    },
    /// What the agent told is taken in up to here, which may not be durable yet; the rest is to be told again. Of each slot the leases that stand.
    Resume {
        sequence: u64,
        slots: Vec<(u32, Vec<u64>)>,
    },
    Close {
        abort: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseCommand {
    pub slot: u32,
    pub lease: u64,
    pub generation: u32,
    pub unit: String,
    pub only: Vec<CaseKey>,
    pub skip: Vec<CaseKey>,
    /// How many unplanned ends of the slot's processes the run knows of. The agent drops a lease that crosses the news of
    /// another one on its way: the run is about to take it back.
    pub ends: u32,
    /// What it should take, where something is recorded of it.
    pub expected: Option<Micros>,
    /// It is too long for one slot: some of it is going to be taken back as soon as its cases are declared.
    pub shared: bool,
    /// Another one follows that the process is to be given together with this one.
    pub more: bool,
    /// Of the process that runs it; a slot that has another one ends that first.
    pub kind: u32,
    /// In a process that has run nothing before, and one that runs nothing behind it.
    pub fresh: bool,
    pub last: bool,
    pub limits: super::Limits,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaseKey {
    pub id: String,
    pub occurrence: u32,
}
