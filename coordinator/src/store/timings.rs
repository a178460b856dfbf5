//! Recorded durations as people and other programs see them, and durations that come from elsewhere.

use super::StoreError;
use super::history::{self, Cases, HistoryQuery, UnitSample};
use crate::record::Outcome;
use crate::run::CaseKey;
use evenkeel_schedule::Micros;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
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
    let mut units: BTreeMap<&str, (Micros, Cases, BTreeMap<&str, u32>)> = BTreeMap::new();
    for case in cases {
        let (work, stored, occurrences) = units.entry(&case.unit).or_default();
        let occurrence = occurrences.entry(&case.id).or_default();
        *work += case.took;
        stored.add(&case.id, *occurrence, case.outcome, case.took);
        *occurrence += 1;
    }
    let sample = |(unit, (work, cases, _)): (&str, (Micros, Cases, _))| UnitSample {
        query: HistoryQuery {
            project: project.to_owned(),
            suite: suite.to_owned(),
            command: [0; 32],
            environment_class: String::new(),
            slots: 0,
        },
        unit: unit.to_owned(),
        work,
        setup: setup.get(unit).copied().unwrap_or_default(),
        case_list: cases.list,
        samples: cases.samples,
    };
    units.into_iter().map(sample).collect()
}

/// Stores them in the place of what was imported for these units before.
pub(super) async fn import(
    connection: &mut SqliteConnection,
    samples: &[UnitSample],
) -> Result<(), StoreError> {
    use sqlx::Executor;
    connection.execute("BEGIN IMMEDIATE").await?;
    for sample in samples {
        sqlx::query("DELETE FROM history WHERE run = ? AND project = ? AND suite = ? AND unit = ?")
            .bind(ELSEWHERE)
            .bind(&sample.query.project)
            .bind(&sample.query.suite)
            .bind(&sample.unit)
            .execute(&mut *connection)
            .await?;
    }
    history::save(connection, ELSEWHERE, samples).await?;
    connection.execute("COMMIT").await?;
    Ok(())
}

/// The suites of a project of which anything is recorded.
pub(super) async fn suites(
    connection: &mut SqliteConnection,
    project: &str,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query("SELECT DISTINCT suite FROM history WHERE project = ? ORDER BY suite")
        .bind(project)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The newest sample of every unit of a suite, by unit.
pub(super) async fn times(
    connection: &mut SqliteConnection,
    project: &str,
    suite: &str,
) -> Result<Vec<UnitTimes>, StoreError> {
    let rows = sqlx::query(
        "SELECT history.unit, history.run, work_us, setup_us, case_lists.cases, history.samples,
           (SELECT COUNT(*) FROM history AS all_of WHERE all_of.project = ?1 AND all_of.suite = ?2 AND all_of.unit = history.unit)
         FROM history JOIN case_lists ON case_lists.digest = history.cases
         WHERE history.id IN
           (SELECT MAX(id) FROM history AS newest WHERE newest.project = ?1 AND newest.suite = ?2 AND newest.run =
             (SELECT MAX(run) FROM history AS last WHERE last.project = ?1 AND last.suite = ?2 AND last.unit = newest.unit)
           GROUP BY newest.unit)
         ORDER BY history.unit",
    )
    .bind(project)
    .bind(suite)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let (run, work, setup): (i64, i64, i64) =
                (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let (list, samples): (Vec<u8>, Vec<u8>) = (row.try_get(4)?, row.try_get(5)?);
            let cases = history::cases_of(&list, &samples).unwrap_or_default();
            let mut cases: Vec<(CaseKey, Micros)> = cases.into_iter().collect();
            cases.sort();
            Ok(UnitTimes {
                suite: suite.to_owned(),
                unit: row.try_get(0)?,
                work: Micros(work as u64),
                setup: Micros(setup as u64),
                samples: row.try_get(6)?,
                imported: run == ELSEWHERE,
                cases,
            })
        })
        .collect()
}
