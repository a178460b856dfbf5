//! Recorded durations as people and other programs see them, and durations that come from elsewhere.

use super::StoreError;
use super::database::Connection;
use super::history::{self, Cases, HistoryQuery, UnitSample};
use super::session::{Session, unix_us};
use crate::record::Outcome;
use crate::run::CaseKey;
use evenkeel_schedule::Micros;
use std::collections::BTreeMap;

/// The run under which durations from elsewhere stand: older than any of our own.
const ELSEWHERE: i64 = 0;

/// What the newest sample of a unit says.
#[derive(Clone, Debug)]
pub struct UnitTimes {
    pub suite: String,
    pub unit: String,
    pub work: Micros,
    pub setup: Micros,
    /// How many samples there are.
    pub samples: u32,
    /// The newest one was imported.
    pub imported: bool,
    /// In the order of their ids.
    pub cases: Vec<(CaseKey, Micros)>,
}

/// A case's duration from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseTime {
    pub unit: String,
    pub id: String,
    pub outcome: Outcome,
    pub took: Micros,
}

/// Durations from elsewhere as samples: one a unit, the cases in the order in which they came. `setup` says what of a unit's time was
/// in none of its cases, where that is known.
pub fn samples_from(
    project: &str,
    suite: &str,
    cases: &[CaseTime],
    setup: &BTreeMap<String, Micros>,
) -> Vec<UnitSample> {
    #[derive(Default)]
    struct Unit<'a> {
        work: Micros,
        cases: Cases,
        occurrences: BTreeMap<&'a str, u32>,
        failures: u32,
    }
    let mut units: BTreeMap<&str, Unit<'_>> = BTreeMap::new();
    for case in cases {
        let unit = units.entry(&case.unit).or_default();
        let occurrence = unit.occurrences.entry(&case.id).or_default();
        unit.work += case.took;
        (unit.cases).add(&case.id, *occurrence, case.outcome, case.took);
        unit.failures += u32::from(case.outcome.is_failure());
        *occurrence += 1;
    }
    let sample = |(name, unit): (&str, Unit<'_>)| UnitSample {
        query: HistoryQuery {
            project: project.to_owned(),
            suite: suite.to_owned(),
            command: [0; 32],
            environment_class: String::new(),
            slots: 0,
        },
        unit: name.to_owned(),
        revision: 0,
        work: unit.work,
        setup: setup.get(name).copied().unwrap_or_default(),
        failures: unit.failures,
        case_list: unit.cases.list,
        samples: unit.cases.samples,
    };
    units.into_iter().map(sample).collect()
}

/// Stores them in the place of what was imported for these units before.
pub(super) async fn import(
    session: &mut Session,
    samples: &[UnitSample],
) -> Result<(), StoreError> {
    session.begin().await?;
    history::save_lists(&mut session.connection, samples).await?;
    for sample in samples {
        session
            .connection
            .execute(
                "DELETE FROM history WHERE run = $1 AND project = $2 AND suite = $3 AND unit = $4",
                &[
                    ELSEWHERE.into(),
                    sample.query.project.as_str().into(),
                    sample.query.suite.as_str().into(),
                    sample.unit.as_str().into(),
                ],
            )
            .await?;
    }
    history::save(&mut session.connection, ELSEWHERE, unix_us(), samples).await?;
    session.commit().await
}

/// The suites of a project of which anything is recorded.
pub(super) async fn suites(
    connection: &mut Connection,
    project: &str,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT suite FROM history WHERE project = $1 ORDER BY suite";
    let rows = connection.fetch(sql, &[project.into()]).await?;
    rows.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// The newest sample of every unit of a suite, by unit.
pub(super) async fn times(
    connection: &mut Connection,
    project: &str,
    suite: &str,
) -> Result<Vec<UnitTimes>, StoreError> {
    let rows = connection.fetch(
        "SELECT history.unit, history.run, work_us, setup_us, case_lists.cases, history.samples,
           (SELECT COUNT(*) FROM history AS all_of WHERE all_of.project = $1 AND all_of.suite = $2 AND all_of.unit = history.unit)
         FROM history JOIN case_lists ON case_lists.digest = history.cases
         WHERE history.id IN
           (SELECT MAX(id) FROM history AS newest WHERE newest.project = $1 AND newest.suite = $2 AND newest.run =
             (SELECT MAX(run) FROM history AS last WHERE last.project = $1 AND last.suite = $2 AND last.unit = newest.unit)
           GROUP BY newest.unit)
         ORDER BY history.unit",
        &[project.into(), suite.into()],
    )
    .await?;
    rows.iter()
        .map(|row| {
            let run: i64 = row.get(1)?;
            let cases = history::cases_of(row.get(4)?, row.get(5)?).unwrap_or_default();
            let mut cases: Vec<(CaseKey, Micros)> = cases.into_iter().collect();
            cases.sort();
            Ok(UnitTimes {
                suite: suite.to_owned(),
                unit: row.get(0)?,
                work: Micros(row.unsigned(2)?),
                setup: Micros(row.unsigned(3)?),
                samples: row.count(6)?,
                imported: run == ELSEWHERE,
                cases,
            })
        })
        .collect()
}
