//! The runner protocol's lines as a runner sees them: operations in, events out.

use serde::{Deserialize, Serialize};

/// The version that is spoken.
pub(crate) const PROTOCOL: u32 = 1;

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Op {
    List,
    Run(Lease),
    Revoke { lease: u64, from: usize },
    Idle,
    Stop,
}

/// The right to run a unit, or the cases of it that `only` and `skip` leave.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Lease {
    pub lease: u64,
    pub unit: String,
    #[serde(default)]
    pub only: Vec<Key>,
    #[serde(default)]
    pub skip: Vec<Key>,
    /// What it should take by earlier runs, microseconds; 0 where none tell.
    #[serde(default)]
    pub expected_us: u64,
    /// Some of it is going to be taken back as soon as its cases are declared.
    #[serde(default)]
    pub shared: bool,
    /// Another one follows that belongs to the same bundle.
    #[serde(default)]
    pub more: bool,
    /// A case's deadline, microseconds; 0 for none.
    #[serde(default)]
    pub timeout_us: u64,
    /// What a case past its deadline has left to end by itself, microseconds; 0 where nothing is set.
    #[serde(default)]
    pub grace_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub(crate) struct Key {
    pub id: String,
    pub n: u32,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event<'a> {
    Hello {
        protocol: u32,
        runner: &'a str,
        framework: &'a str,
        language: &'a str,
        pid: u32,
        at: u64,
        can: &'a [&'a str],
        notes: &'a [String],
        run_wide: &'a RunWide,
        /// The runner may object to the run when it says bye.
        closing: bool,
    },
    Refused {
        reason: Refusal,
        message: &'a str,
        hint: &'a str,
        detail: &'a str,
    },
    Listed {
        units: &'a [Unit],
        more: bool,
    },
    Begin {
        lease: u64,
        at: u64,
    },
    Declare {
        lease: u64,
        cases: &'a [Case],
        more: bool,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        instead: &'a [Key],
    },
    Start {
        lease: u64,
        case: usize,
        at: u64,
    },
    End {
        lease: u64,
        case: usize,
        at: u64,
        duration_us: u64,
        #[serde(skip_serializing_if = "is_zero")]
        setup_us: u64,
        #[serde(flatten)]
        result: &'a CaseResult,
    },
    Close {
        lease: u64,
        at: u64,
        setup_us: u64,
    },
    Returned {
        lease: u64,
        cases: &'a [usize],
        all: bool,
    },
    Log {
        level: Level,
        text: &'a str,
    },
    Bye {
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        failed: &'a [Objection],
    },
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Options of the framework that concern the whole run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct RunWide {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_fail: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub show_output: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Refusal {
    Usage,
    Unsupported,
    Broken,
    Build,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Unit {
    pub unit: String,
    pub path: String,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub id: String,
    pub n: u32,
    pub name: String,
    pub class: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
}

impl Case {
    /// The case that stands for a unit as a whole.
    pub(crate) fn whole(unit: &str) -> Case {
        Case {
            id: unit.to_owned(),
            n: 0,
            name: unit.to_owned(),
            class: unit.to_owned(),
            group: String::new(),
        }
    }

    pub(crate) fn key(&self) -> Key {
        Key {
            id: self.id.clone(),
            n: self.n,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Error,
    Skipped,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CaseResult {
    pub outcome: Outcome,
    /// One line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<Output>,
}

impl CaseResult {
    /// A case about which there is no more to say than this.
    pub(crate) fn new(outcome: Outcome, message: impl Into<String>) -> CaseResult {
        CaseResult {
            outcome,
            message: message.into(),
            detail: String::new(),
            output: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Output {
    pub name: &'static str,
    pub text: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// What is being done, for whoever watches; not recorded.
    Progress,
    Warning,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Objection {
    pub message: String,
    pub detail: String,
}
