//! A place for a store, which a test may open as often as it likes and spoil; and runs to put there.

use crate::server::{Server, fresh_directory};
use evenkeel_coordinator::record::Totals;
use evenkeel_coordinator::store::{
    HistoryQuery, RunHandle, RunKey, Store, StoreAddress, StoreError, UnitSample,
};
use evenkeel_proto::ledger as l;
use evenkeel_proto::suite::Suite;
use evenkeel_schedule::Micros;
use l::entry::Body;
use prost::Message;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Place {
    pub directory: PathBuf,
    pub address: StoreAddress,
}

impl Place {
    pub async fn sqlite() -> Place {
        let directory = fresh_directory();
        let address = StoreAddress::Sqlite(directory.join("evenkeel.db"));
        Place { directory, address }
    }

    /// A database of its own on the server that all tests share.
    pub async fn postgres() -> Place {
        static SERVER: OnceLock<Server> = OnceLock::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(Server::start));
        Place::on(
            server.await.unwrap(),
            NUMBER.fetch_add(1, Ordering::Relaxed),
        )
        .await
    }

    pub async fn on(server: &Server, number: u32) -> Place {
        let name = format!("store_{number}");
        let mut connection = PgConnection::connect(&server.url("postgres"))
            .await
            .unwrap();
        let create = format!("CREATE DATABASE {name}");
        connection.execute(AssertSqlSafe(create)).await.unwrap();
        Place {
            directory: fresh_directory(),
            address: StoreAddress::Postgres(server.url(&name)),
        }
    }

    pub async fn serve(&self, name: &str) -> Store {
        Store::serve_from(&self.address, &self.directory, name)
            .await
            .unwrap()
    }

    pub async fn inspect(&self) -> Store {
        Store::inspect(&self.address, &self.directory)
            .await
            .unwrap()
    }

    pub async fn sql(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.address {
            StoreAddress::Sqlite(path) => {
                let url = format!("sqlite:{}", path.display());
                let mut connection = SqliteConnection::connect(&url).await.unwrap();
                connection.execute(sql).await.unwrap();
            }
            StoreAddress::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                connection.execute(sql).await.unwrap();
            }
        }
    }

    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.address {
            StoreAddress::Sqlite(path) => {
                let url = format!("sqlite:{}", path.display());
                let mut connection = SqliteConnection::connect(&url).await.unwrap();
                connection.fetch_one(sql).await.unwrap().get(0)
            }
            StoreAddress::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                connection.fetch_one(sql).await.unwrap().get(0)
            }
        }
    }

    /// Bytes as they are written in SQL.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match &self.address {
            StoreAddress::Sqlite(_) => format!("x'{digits}'"),
            StoreAddress::Postgres(_) => format!("'\\x{digits}'::bytea"),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

pub fn key(project: &str, run: &str) -> RunKey {
    RunKey {
        project: project.to_owned(),
        run: run.to_owned(),
        round: 1,
    }
}

pub fn batch(at_us: u64, entries: Vec<Body>) -> Vec<u8> {
    let entries = entries
        .into_iter()
        .map(|body| l::Entry { body: Some(body) });
    l::Batch {
        at_us,
        entries: entries.collect(),
        taken: None,
    }
    .encode_to_vec()
}

pub fn note(text: &str) -> Body {
    Body::Noted(l::Noted {
        level: 1,
        text: text.to_owned(),
    })
}

pub fn opened(project: &str, run: &str) -> Vec<u8> {
    let suite = Suite {
        name: "unit".to_owned(),
        command: vec!["pytest".to_owned()],
        ..Suite::default()
    };
    let opened = l::RunOpened {
        project: project.to_owned(),
        run: run.to_owned(),
        round: 1,
        suites: vec![suite],
        ..l::RunOpened::default()
    };
    batch(0, vec![Body::RunOpened(opened)])
}

pub async fn open(store: &Store, run: &str) -> RunHandle {
    try_open(store, run).await.unwrap()
}

pub async fn try_open(store: &Store, run: &str) -> Result<RunHandle, StoreError> {
    let rows = vec![opened("keel", run)];
    store
        .open_run(key("keel", run), 1_000, "unit".to_owned(), rows)
        .await
}

pub fn closed(verdict: &str) -> l::Closed {
    l::Closed {
        verdict: verdict.to_owned(),
        exit_code: 0,
        makespan_us: 7,
        lower_bound_us: 5,
        message: String::new(),
        hint: String::new(),
    }
}

pub async fn close(store: &Store, run: RunHandle, tests: u32) -> Result<(), StoreError> {
    let closed = closed("passed");
    let rows = vec![batch(9, vec![Body::Closed(closed.clone())])];
    let totals = Totals {
        tests,
        passed: tests,
        ..Totals::default()
    };
    let samples = vec![
        sample("unit", "test_a.py", 1_000),
        sample("unit", "test_b.py", 2_000),
    ];
    store.close_run(run, rows, &closed, totals, samples).await
}

pub fn query(suite: &str) -> HistoryQuery {
    HistoryQuery {
        project: "keel".to_owned(),
        suite: suite.to_owned(),
        command: [7; 32],
        environment_class: "linux".to_owned(),
        slots: 2,
    }
}

pub fn sample(suite: &str, unit: &str, work: u64) -> UnitSample {
    let mut case_list = Vec::new();
    for id in ["one", "two"] {
        case_list.extend(3u32.to_le_bytes());
        case_list.extend(id.as_bytes());
        case_list.extend(0u32.to_le_bytes());
    }
    let mut samples = Vec::new();
    for took in [work as u32 / 4, work as u32 / 2] {
        samples.push(1);
        samples.extend(took.to_le_bytes());
    }
    UnitSample {
        query: query(suite),
        unit: unit.to_owned(),
        work: Micros(work),
        setup: Micros(10),
        revision: 0,
        failures: 0,
        case_list,
        samples,
    }
}

/// Texts of the notes in batches, in their order.
pub fn notes(batches: &[l::Batch]) -> Vec<String> {
    let entries = batches.iter().flat_map(|batch| &batch.entries);
    let note = |entry: &l::Entry| match &entry.body {
        Some(Body::Noted(noted)) => Some(noted.text.clone()),
        _ => None,
    };
    entries.filter_map(note).collect()
}
