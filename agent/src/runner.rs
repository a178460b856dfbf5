//! The runner protocol's lines: operations out, events in. See docs/runner-protocol.md.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version that this agent speaks.
pub(crate) const PROTOCOL: u32 = 1;
/// No line is longer than this, in bytes.
pub(crate) const MAX_LINE: usize = 16 << 20;

#[derive(Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Op<'a> {
    List,
    Run {
        lease: u64,
        unit: &'a str,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        only: &'a [Key],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        skip: &'a [Key],
        /// How many of its cases may start; absent: all.
        #[serde(skip_serializing_if = "Option::is_none")]
        grant: Option<u32>,
        /// What it should take, where that is known.
        #[serde(skip_serializing_if = "is_zero")]
        expected_us: u64,
        /// Some of it is going to be taken back as soon as its cases are declared.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        shared: bool,
        /// Another one follows at once, to be run together with this one.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        more: bool,
        /// A case's deadline, for runners that have to watch it themselves.
        #[serde(skip_serializing_if = "is_zero")]
        timeout_us: u64,
        /// What a case past its deadline has left to end by itself.
        #[serde(skip_serializing_if = "is_zero")]
        grace_us: u64,
    },
    Grant {
        lease: u64,
        to: u32,
    },
    Finish {
        carried: &'a [Carried],
        more: bool,
    },
    Revoke {
        lease: u64,
        from: u32,
    },
    Idle,
    Stop,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Carried {
    pub slot: u32,
    pub carry: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Key {
    pub id: String,
    #[serde(default)]
    pub n: u32,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum RunnerEvent {
    Hello(Hello),
    Refused {
        reason: Refusal,
        message: String,
        #[serde(default)]
        hint: String,
        #[serde(default)]
        detail: String,
    },
    Listed {
        units: Vec<ListedUnit>,
        more: bool,
    },
    Begin {
        lease: u64,
        at: u64,
    },
    Declare {
        lease: u64,
        cases: Vec<DeclaredCase>,
        #[serde(default)]
        more: bool,
        #[serde(default)]
        instead: Vec<Key>,
    },
    Start {
        lease: u64,
        case: u32,
        at: u64,
    },
    End(End),
    Close {
        lease: u64,
        at: u64,
        #[serde(default)]
        setup_us: u64,
    },
    Returned {
        lease: u64,
        cases: Vec<u32>,
        #[serde(default)]
        all: bool,
    },
    Waiting {
        lease: u64,
        case: u32,
        at: u64,
    },
    Halt {
        reason: String,
    },
    Log {
        level: Level,
        text: String,
    },
    Warnings {
        list: Vec<Warning>,
    },
    Bye {
        #[serde(default)]
        failed: Vec<Objection>,
        #[serde(default)]
        summary: Vec<Summary>,
        #[serde(default)]
        carry: String,
    },
}

#[derive(Deserialize)]
pub(crate) struct Hello {
    pub protocol: u32,
    pub runner: String,
    #[serde(default)]
    pub framework: String,
    #[serde(default)]
    pub language: String,
    pub pid: u32,
    #[serde(default)]
    pub at: Option<u64>,
    #[serde(default)]
    pub can: Vec<String>,
    #[serde(default)]
    pub notes: Vec<String>,
    #[serde(default)]
    pub run_wide: RunWide,
    #[serde(default)]
    pub closing: bool,
    #[serde(default)]
    pub finish: bool,
}

#[derive(Default, Deserialize)]
pub(crate) struct RunWide {
    #[serde(default)]
    pub max_fail: u32,
    #[serde(default)]
    pub junit: String,
    /// How many of the slowest tests to show, 0 for all.
    #[serde(default)]
    pub durations: Option<u32>,
    /// Seconds.
    #[serde(default)]
    pub durations_min: f64,
    /// The user wants to see what tests print.
    #[serde(default)]
    pub show_output: bool,
}

#[derive(Deserialize)]
pub(crate) struct Warning {
    pub text: String,
    #[serde(default)]
    pub count: u32,
    #[serde(default)]
    pub cases: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Objection {
    pub message: String,
    #[serde(default)]
    pub detail: String,
}

#[derive(Deserialize)]
pub(crate) struct Summary {
    #[serde(default)]
    pub title: String,
    pub text: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Refusal {
    Usage,
    Unsupported,
    Broken,
    Build,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Progress,
    Info,
    Warning,
    Error,
}

#[derive(Deserialize)]
pub(crate) struct ListedUnit {
    pub unit: String,
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub size: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum DeclaredCase {
    Id(String),
    Full {
        id: String,
        #[serde(default)]
        n: u32,
        #[serde(default)]
        name: String,
        #[serde(default)]
        class: String,
        #[serde(default)]
        file: String,
        #[serde(default)]
        line: u32,
        #[serde(default)]
        group: String,
    },
}

#[derive(Deserialize)]
pub(crate) struct End {
    pub lease: u64,
    pub case: u32,
    pub at: u64,
    pub outcome: Outcome,
    pub duration_us: u64,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub output: Vec<Output>,
    #[serde(default)]
    pub properties: Vec<(String, String)>,
    #[serde(default)]
    pub setup_us: u64,
    #[serde(default, rename = "phases_us")]
    pub _phases_us: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Error,
    Skipped,
}

#[derive(Deserialize)]
pub(crate) struct Output {
    pub name: String,
    pub text: String,
}

impl RunnerEvent {
    /// When it happened, on the runner's clock, where it says so.
    pub(crate) fn at(&self) -> Option<u64> {
        match self {
            RunnerEvent::Hello(hello) => hello.at,
            RunnerEvent::Begin { at, .. }
            | RunnerEvent::Start { at, .. }
            | RunnerEvent::Waiting { at, .. }
            | RunnerEvent::Close { at, .. } => Some(*at),
            RunnerEvent::End(end) => Some(end.at),
            _ => None,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Appends an operation as a line.
pub(crate) fn write_op(op: &Op<'_>, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, op).expect("operations are plain data");
    out.push(b'\n');
}
