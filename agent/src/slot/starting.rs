//! Bringing a process up: what its suite wants done in this slot before, and after everything.

use super::live::Live;
use super::{Item, Kind, Slot};
use crate::framework::Role;
use crate::hooks::{self, Failed};
use evenkeel_proto::v1;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use v1::fact::Body;
use v1::process_ended::Cause;

/// How far a slot is with the set-ups of suites.
#[derive(Default)]
pub(super) struct SetUps {
    /// One is under way: of this suite.
    pub under_way: Option<(String, JoinHandle<Result<(), Failed>>)>,
    /// Since when a process is being brought up, its set-up included.
    since: Option<Instant>,
    /// Suites that the slot has been set up for, also where that failed.
    done: Vec<String>,
    /// Those where it failed.
    failed: Vec<String>,
    /// The slot has told the machine that it needs nothing more.
    has_left: bool,
}

impl Slot {
    pub(super) fn start(&mut self) {
        // What it cannot be set up for was on its way before the coordinator knew; that has given it to others.
        let kinds = Arc::clone(&self.setup.kinds);
        let of = |kind: u32| {
            kinds
                .get(kind as usize)
                .map(|kind| kind.suite.name.as_str())
        };
        if !self.set_ups.failed.is_empty() && !self.concluded {
            let unable = &self.set_ups.failed;
            let able = |kind: u32| !unable.iter().any(|suite| Some(suite.as_str()) == of(kind));
            self.queue.retain(|item| item.kind().is_none_or(able));
            if !able(self.kind) && !self.queue.iter().any(|item| item.kind().is_some()) {
                return;
            }
        }
        let wanted = self.queue.iter().find_map(Item::kind);
        // What an agent does not know it cannot start; the coordinator is told what it was given.
        self.kind = wanted
            .filter(|kind| of(*kind).is_some())
            .unwrap_or(self.kind);
        let begun = *self.set_ups.since.get_or_insert_with(Instant::now);
        if self.sets_up_first() {
            return;
        }
        self.set_ups.since = None;
        let setup = &self.setup;
        let Kind { framework, suite } = &setup.kinds[self.kind as usize];
        let socket = setup.sockets.join(format!(
            "{}-{}-{}",
            setup.run, setup.identity.shard, self.incarnation
        ));
        let role = if self.concluded {
            Role::Finish
        } else {
            Role::Test
        };
        let started = framework
            .spawn(suite, &setup.identity, role, &setup.cache, &setup.guard)
            .and_then(|mut spawn| {
                let kind = ("EVENKEEL_KIND".to_owned(), Some(self.kind.to_string()));
                spawn.environment.push(kind);
                let (process, connected) = setup.processes.start(&spawn, &setup.guard, socket)?;
                Ok(Live::new(process, connected, spawn, begun))
            });
        match started {
            Ok(live) => self.live = Some(live),
            Err(error) => {
                let explanation = format!(
                    "the process could not be started in {}: {error}",
                    suite.directory
                );
                self.queue.clear(); // the coordinator gives it out again
                self.process_ended(Cause::Exited, -1, None, String::new(), explanation, None);
                self.owes_concluded |= self.concluded;
            }
        }
    }

    /// Whether the suite whose process is to be started has to be set up before. It has been begun then.
    pub(super) fn sets_up_first(&mut self) -> bool {
        let suite = &self.setup.kinds[self.kind as usize].suite;
        let nothing = suite.setup.is_empty()
            && suite.teardown.is_empty()
            && suite.slot_setup.is_empty()
            && suite.slot_teardown.is_empty();
        if nothing || self.concluded || self.set_ups.done.contains(&suite.name) {
            return false;
        }
        let (suite, hooks) = (suite.clone(), Arc::clone(&self.setup.hooks));
        let environment = self.setup.identity.variables();
        let name = suite.name.clone();
        if !(suite.setup.is_empty() && suite.slot_setup.is_empty()) {
            let text = format!("slot {}: setting up suite {name}", self.setup.slot + 1);
            self.log(v1::slot_log::Level::Progress, &text);
        }
        let setting_up = tokio::spawn(async move {
            hooks.set_up(&suite.name).await?;
            hooks::carry_out("slot-setup", &suite.slot_setup, &suite, &environment).await
        });
        self.set_ups.under_way = Some((name, setting_up));
        true
    }

    pub(super) fn has_set_up(&mut self, outcome: Result<(), Failed>) {
        let Some((suite, _)) = self.set_ups.under_way.take() else {
            return;
        };
        // Where it failed there may be something to tear down all the same.
        self.set_ups.done.push(suite);
        match outcome {
            Ok(()) => self.start(),
            Err(failed) => {
                self.set_ups.since = None;
                self.set_ups
                    .failed
                    .extend(self.set_ups.done.last().cloned());
                self.queue.clear(); // the coordinator gives it out again
                self.ends += 1;
                let refused = v1::ProcessRefused {
                    kind: self.kind,
                    reason: v1::process_refused::Reason::Setup as i32,
                    message: failed.message,
                    detail: failed.output,
                    ..v1::ProcessRefused::default()
                };
                self.fact(Body::ProcessRefused(refused), true);
            }
        }
    }

    /// Nothing is run here any more: tears down what was set up for this slot, and on the machine if it is the last.
    pub(super) async fn tear_down(&mut self) {
        if let Some((suite, setting_up)) = self.set_ups.under_way.take() {
            setting_up.abort();
            setting_up.await.ok();
            self.set_ups.done.push(suite);
        }
        if std::mem::replace(&mut self.set_ups.has_left, true) {
            return;
        }
        let environment = self.setup.identity.variables();
        let mut failed = Vec::new();
        for name in std::mem::take(&mut self.set_ups.done).into_iter().rev() {
            let mut kinds = self.setup.kinds.iter();
            let Some(kind) = kinds.find(|kind| kind.suite.name == name) else {
                continue;
            };
            let words = &kind.suite.slot_teardown;
            let torn = hooks::tear_down("slot-teardown", words, &kind.suite, &environment);
            failed.extend(torn.await.err());
        }
        failed.extend(self.setup.hooks.leave().await);
        for Failed { message, output } in failed {
            let text = format!("{message}\n{output}");
            self.log(v1::slot_log::Level::Warning, text.trim_end());
        }
    }
}
