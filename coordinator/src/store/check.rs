//! Reads everything and says what is wrong with it. Nothing is changed.

use super::database::Connection;
use super::ledger::{Position, RunRow};
use super::reading::StoredRow;
use super::task::Request;
use super::{Store, StoreError};
use crate::record::{Case, Record, TextRef, Verdict};
use crate::report;
use evenkeel_proto::ledger as l;
use l::entry::Body;
use prost::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Something that is wrong, with its run and, where it is one, its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The run's id; empty where there is none.
    pub run: String,
    /// The run's number in the store.
    pub number: i64,
    /// The row's sequence, counted from 1.
    pub row: Option<u64>,
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it has no rows")]
    Empty,
    #[error("a row is missing before it")]
    Gap,
    #[error("it does not follow from the row before it")]
    Unlinked,
    #[error("its epoch is {epoch}, after {before}")]
    EpochFell { before: i64, epoch: i64 },
    #[error("it is held by epoch {held}, but was written by {epoch}")]
    HeldByEarlier { held: i64, epoch: i64 },
    #[error("it cannot be decoded: {reason}")]
    Undecodable { reason: String },
    #[error("it does not fit what comes before it: {reason}")]
    Unfit { reason: String },
    #[error("the run is not opened first, or under another name")]
    Unopened,
    #[error("{what} has its final verdict already")]
    SecondVerdict { what: String },
    #[error("there is something after the run's end")]
    AfterEnd,
    #[error("the output of {what} cannot be read: {reason}")]
    Output { what: String, reason: String },
    #[error("its {what} is {listed} in the listing and {told} in its ledger")]
    Differs {
        what: &'static str,
        listed: String,
        told: String,
    },
    #[error("it has rows, but is not listed")]
    Unlisted,
    #[error("the history names {count} lists of cases that are not there")]
    ListsMissing { count: u64 },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.run.as_str(), self.number) {
            ("", 0) => {}
            ("", number) => write!(f, "run number {number}: ")?,
            (run, _) => write!(f, "run {run}: ")?,
        }
        if let Some(row) = self.row {
            write!(f, "row {row}: ")?;
        }
        self.fault.fmt(f)
    }
}

/// What belongs to no run that is listed.
pub(super) struct Strays {
    runs: Vec<i64>,
    lists: u64,
}

impl Store {
    /// Checks every run: its chain, what its rows say, its outputs and its line in the listing. `progress` hears how many of how many
    /// runs have been read.
    pub async fn check(
        &self,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Vec<Finding>, StoreError> {
        let runs = self.runs(u32::MAX).await?;
        let mut findings = Vec::new();
        for (done, run) in runs.iter().rev().enumerate() {
            progress(done as u64, runs.len() as u64);
            let number = run.row;
            let snapshot = self.ask(|reply| Request::Snapshot { run: number, reply });
            // It may have been removed meanwhile.
            let Some((run, epoch, stored)) = snapshot.await? else {
                continue;
            };
            let outputs = self.run_directory_of(&run).join(report::OUTPUTS);
            let checking = move || RunCheck::new(run, outputs).finish(epoch, &stored);
            let found = tokio::task::spawn_blocking(checking).await;
            findings.extend(found.map_err(|_| StoreError::Gone)?);
        }
        let strays = self.ask(|reply| Request::Strays { reply }).await?;
        findings.extend(strays.runs.into_iter().map(|number| Finding {
            run: String::new(),
            number,
            row: None,
            fault: Fault::Unlisted,
        }));
        if strays.lists > 0 {
            findings.push(Finding {
                run: String::new(),
                number: 0,
                row: None,
                fault: Fault::ListsMissing {
                    count: strays.lists,
                },
            });
        }
        progress(runs.len() as u64, runs.len() as u64);
        Ok(findings)
    }
}

pub(super) async fn strays(connection: &mut Connection) -> Result<Strays, StoreError> {
    let sql = "SELECT DISTINCT run FROM ledger WHERE run NOT IN (SELECT id FROM runs) ORDER BY run";
    let rows = connection.fetch(sql, &[]).await?;
    let runs = rows
        .iter()
        .map(|row| row.get(0))
        .collect::<Result<_, _>>()?;
    let sql = "SELECT COUNT(DISTINCT cases) FROM history WHERE cases NOT IN (SELECT digest FROM case_lists)";
    let lists = connection.fetch_one(sql, &[]).await?.unsigned(0)?;
    Ok(Strays { runs, lists })
}

struct RunCheck {
    run: RunRow,
    outputs: PathBuf,
    record: Record,
    findings: Vec<Finding>,
}

impl RunCheck {
    fn new(run: RunRow, outputs: PathBuf) -> RunCheck {
        RunCheck {
            run,
            outputs,
            record: Record::default(),
            findings: Vec::new(),
        }
    }

    fn found(&mut self, row: Option<i64>, fault: Fault) {
        self.findings.push(Finding {
            run: self.run.key.run.clone(),
            number: self.run.row,
            row: row.map(|row| row as u64),
            fault,
        });
    }

    fn finish(mut self, epoch: i64, stored: &[StoredRow]) -> Vec<Finding> {
        self.chain(epoch, stored);
        // Once a row cannot be applied, what comes after it says nothing certain.
        if stored.iter().all(|row| self.row(row)) {
            self.listing();
        }
        self.texts();
        self.findings
    }

    fn chain(&mut self, epoch: i64, stored: &[StoredRow]) {
        let mut expected = Position::FIRST;
        let mut latest = 0;
        for row in stored {
            if row.sequence != expected.sequence {
                self.found(Some(row.sequence), Fault::Gap);
            } else if row.previous != expected.previous {
                self.found(Some(row.sequence), Fault::Unlinked);
            }
            if row.epoch < latest {
                let (before, epoch) = (latest, row.epoch);
                self.found(Some(row.sequence), Fault::EpochFell { before, epoch });
            }
            latest = row.epoch;
            // One fault is one finding: what follows is compared with what is there.
            let there = Position {
                sequence: row.sequence,
                previous: row.previous.as_slice().try_into().unwrap_or_default(),
            };
            expected = there.next(row.epoch, &row.payload);
        }
        match stored.last() {
            None => self.found(None, Fault::Empty),
            Some(last) if last.epoch > epoch => {
                let fault = Fault::HeldByEarlier {
                    held: epoch,
                    epoch: last.epoch,
                };
                self.found(None, fault);
            }
            Some(_) => {}
        }
    }

    /// Whether the row could be applied.
    fn row(&mut self, row: &StoredRow) -> bool {
        let batch = match l::Batch::decode(&row.payload[..]) {
            Ok(batch) => batch,
            Err(error) => {
                let reason = error.to_string();
                self.found(Some(row.sequence), Fault::Undecodable { reason });
                return false;
            }
        };
        if row.sequence == 1 && !self.opens(&batch) {
            self.found(Some(1), Fault::Unopened);
        }
        for entry in &batch.entries {
            if let Some(fault) = self.too_late(entry) {
                self.found(Some(row.sequence), fault);
            }
            if let Err(error) = self.record.apply(entry) {
                let reason = error.to_string();
                self.found(Some(row.sequence), Fault::Unfit { reason });
                return false;
            }
        }
        true
    }

    fn opens(&self, batch: &l::Batch) -> bool {
        let first = batch.entries.first().and_then(|entry| entry.body.as_ref());
        matches!(first, Some(Body::RunOpened(opened))
            if opened.project == self.run.key.project && opened.run == self.run.key.run)
    }

    /// What is wrong with an entry because of those before it.
    fn too_late(&self, entry: &l::Entry) -> Option<Fault> {
        if self.record.closed.is_some() {
            return Some(Fault::AfterEnd);
        }
        let second = |what| Some(Fault::SecondVerdict { what });
        match entry.body.as_ref()? {
            Body::Attempt(attempt) => {
                let unit = self.record.lease(attempt.lease)?.unit;
                let case = self.case(unit, attempt.case)?;
                case.verdict().and_then(|_| second(case.id.to_string()))
            }
            Body::Settled(settled) => match settled.case {
                Some(number) => {
                    let case = self.case(settled.unit, number)?;
                    case.verdict().and_then(|_| second(case.id.to_string()))
                }
                None => {
                    let unit = self.record.units.get(settled.unit as usize)?;
                    let settled: Option<&(Verdict, Box<str>)> = unit.settled.as_ref();
                    settled.and_then(|_| second(unit.name.to_string()))
                }
            },
            _ => None,
        }
    }

    fn case(&self, unit: u32, case: u32) -> Option<&Case> {
        self.record
            .units
            .get(unit as usize)?
            .cases
            .get(case as usize)
    }

    /// Whether the listing says what the ledger says.
    fn listing(&mut self) {
        let listed = self.run.closed.clone();
        let told = self.record.closed.clone();
        let word = |verdict: Option<&str>| verdict.unwrap_or("open").to_owned();
        let mut pairs = vec![(
            "verdict",
            word(listed.as_ref().map(|closed| closed.verdict.as_str())),
            word(told.as_ref().map(|closed| closed.verdict.as_str())),
        )];
        if let (Some(listed), Some(told)) = (listed, told) {
            let totals = self.record.totals();
            let numbers = [
                ("exit code", listed.exit_code.into(), told.exit_code.into()),
                ("number of tests", listed.tests.into(), totals.tests.into()),
                (
                    "number of failures",
                    listed.failures.into(),
                    totals.failures().into(),
                ),
                ("makespan", listed.makespan_us, told.makespan_us),
                ("lower bound", listed.lower_bound_us, told.lower_bound_us),
            ];
            pairs.extend(numbers.map(|(what, listed, told): (_, u64, u64)| {
                (what, listed.to_string(), told.to_string())
            }));
        }
        for (what, listed, told) in pairs {
            if listed != told {
                self.found(None, Fault::Differs { what, listed, told });
            }
        }
    }

    /// Whether the outputs are there that attempts refer to. Equal ones are stored once.
    fn texts(&mut self) {
        let mut texts: BTreeMap<(u64, u32), (String, TextRef)> = BTreeMap::new();
        for case in self.record.units.iter().flat_map(|unit| &unit.cases) {
            for text in case
                .attempts()
                .filter_map(|attempt| attempt.text.as_deref())
            {
                let entry = texts.entry((text.offset, text.length));
                entry.or_insert_with(|| (case.id.to_string(), text.clone()));
            }
        }
        if texts.is_empty() {
            return;
        }
        let file = File::open(&self.outputs);
        for (what, text) in texts.into_values() {
            let read = match &file {
                Ok(file) => read(file, &text),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = read {
                self.found(None, Fault::Output { what, reason });
            }
        }
    }
}

fn read(file: &File, text: &TextRef) -> Result<(), String> {
    let mut bytes = vec![0; text.length as usize];
    file.read_exact_at(&mut bytes, text.offset)
        .map_err(|error| error.to_string())?;
    match *blake3::hash(&bytes).as_bytes() == text.digest {
        true => Ok(()),
        false => Err("its digest does not match".to_owned()),
    }
}
