//! One connection to either database, and the little of SQL that differs between them.
//!
//! Statements are written once, with `$1` for parameters; values are 64-bit integers, texts and bytes, which both have.

use super::{StoreAddress, StoreError, disk};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgRow, PgSeverity, Postgres};
use sqlx::query::Query;
use sqlx::sqlite::{
    Sqlite, SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Decode, Executor, PgConnection, SqlSafeStr,
    SqliteConnection, Type,
};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 100;
/// How long another process may hold SQLite's file before a statement fails.
const BUSY: Duration = Duration::from_secs(20);
/// How often a file is opened anew that another process holds.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a server may take to answer a new connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How many rows go into the table with one statement. Few different numbers, so that their statements stay prepared;
/// with the widest table they stay below the 32,766 parameters of SQLite and the 65,535 of PostgreSQL.
const ROWS: [usize; 5] = [256, 64, 16, 4, 1];
/// How many bytes go into a statement that has more than one row.
const BYTES: usize = 8 << 20;

pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// How a SQLite file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing is changed, not even the files beside it.
    Look,
    Write,
    Create,
}

/// A value to be stored or compared with.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Integer(i64),
    Text(&'a str),
    OptionalText(Option<&'a str>),
    Bytes(&'a [u8]),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Integer(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Value::Integer(value.into())
    }
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::Text(value)
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Value::OptionalText(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Value::Bytes(value)
    }
}

pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub fn get<'r, T>(&'r self, column: usize) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Row::Sqlite(row) => sqlx::Row::try_get(row, column),
            Row::Postgres(row) => sqlx::Row::try_get(row, column),
        }
    }

    /// A number that was never negative.
    pub fn unsigned(&self, column: usize) -> Result<u64, sqlx::Error> {
        Ok(self.get::<i64>(column)? as u64)
    }

    pub fn count(&self, column: usize) -> Result<u32, sqlx::Error> {
        Ok(u32::try_from(self.get::<i64>(column)?).unwrap_or(u32::MAX))
    }
}

type SqliteQuery<'q> = Query<'q, Sqlite, SqliteArguments>;
type PostgresQuery<'q> = Query<'q, Postgres, PgArguments>;

fn sqlite_query<'q>(sql: impl SqlSafeStr, values: &[Value<'q>]) -> SqliteQuery<'q> {
    let bind = |query: SqliteQuery<'q>, value: &Value<'q>| match *value {
        Value::Integer(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::OptionalText(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
    };
    values.iter().fold(sqlx::query(sql), bind)
}

fn postgres_query<'q>(sql: impl SqlSafeStr, values: &[Value<'q>]) -> PostgresQuery<'q> {
    // PostgreSQL has no zero byte in its texts.
    let storable = |text: &str| text.replace('\0', "\u{fffd}");
    let bind = |query: PostgresQuery<'q>, value: &Value<'q>| match *value {
        Value::Integer(value) => query.bind(value),
        Value::Text(value) => query.bind(storable(value)),
        Value::OptionalText(value) => query.bind(value.map(storable)),
        Value::Bytes(value) => query.bind(value),
    };
    values.iter().fold(sqlx::query(sql), bind)
}

impl Connection {
    pub async fn open(address: &StoreAddress, access: Access) -> Result<Connection, StoreError> {
        let opened = match address {
            StoreAddress::Sqlite(path) => open_sqlite(path, access).await,
            StoreAddress::Postgres(url) => open_postgres(url).await,
        };
        opened.map_err(|source| StoreError::Open {
            store: address.clone(),
            source,
        })
    }

    pub async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Connection::Sqlite(connection) => disk::statement(connection.close()).await,
            Connection::Postgres(connection) => connection.close().await,
        }
    }

    /// Whether it can be lost without its database being so.
    pub fn is_remote(&self) -> bool {
        matches!(self, Connection::Postgres(_))
    }

    /// Runs any number of statements without parameters.
    pub async fn script(&mut self, sql: impl SqlSafeStr) -> Result<(), sqlx::Error> {
        let sql = sql.into_sql_str();
        match self {
            Connection::Sqlite(connection) => {
                let done = connection.execute(sqlx::raw_sql(sql));
                disk::statement(done).await.map(|_| ())
            }
            Connection::Postgres(connection) => {
                connection.execute(sqlx::raw_sql(sql)).await.map(|_| ())
            }
        }
    }

    /// Begins a transaction that writes. In SQLite no other one goes on at the same time.
    pub async fn begin(&mut self) -> Result<(), sqlx::Error> {
        let sql = match self {
            Connection::Sqlite(_) => "BEGIN IMMEDIATE",
            Connection::Postgres(_) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        self.script(sql).await
    }

    /// Begins a transaction whose queries all see the same state.
    pub async fn begin_reading(&mut self) -> Result<(), sqlx::Error> {
        let sql = match self {
            Connection::Sqlite(_) => "BEGIN",
            Connection::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        self.script(sql).await
    }

    /// How many rows it changed.
    pub async fn execute(
        &mut self,
        sql: impl SqlSafeStr,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Connection::Sqlite(connection) => {
                let done = sqlite_query(sql, values).execute(connection);
                disk::statement(done).await?.rows_affected()
            }
            Connection::Postgres(connection) => {
                let done = postgres_query(sql, values).execute(connection).await?;
                done.rows_affected()
            }
        })
    }

    pub async fn fetch(
        &mut self,
        sql: impl SqlSafeStr,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Connection::Sqlite(connection) => {
                let rows = sqlite_query(sql, values).fetch_all(connection);
                let rows = disk::statement(rows).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Connection::Postgres(connection) => {
                let rows = postgres_query(sql, values).fetch_all(connection).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    pub async fn fetch_optional(
        &mut self,
        sql: impl SqlSafeStr,
        values: &[Value<'_>],
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.fetch(sql, values).await?.into_iter().next())
    }

    pub async fn fetch_one(
        &mut self,
        sql: impl SqlSafeStr,
        values: &[Value<'_>],
    ) -> Result<Row, sqlx::Error> {
        let row = self.fetch_optional(sql, values).await?;
        row.ok_or(sqlx::Error::RowNotFound)
    }

    /// A list of numbers in brackets, for `IN`. Some may be repeated so that there are few different statements.
    pub fn numbers(&self, numbers: &[i64]) -> (String, Vec<Value<'static>>) {
        let length = numbers.len().next_power_of_two();
        let last = numbers.last().copied().unwrap_or_default();
        let padding = std::iter::repeat_n(last, length - numbers.len());
        let values = numbers.iter().copied().chain(padding);
        (
            self.placeholders(1, length),
            values.map(Value::Integer).collect(),
        )
    }

    /// Inserts rows of so many `columns`, whose values follow each other; `into` ends before `VALUES`, `conflict` is what
    /// follows them. The number of bytes of a statement is bounded.
    pub async fn insert(
        &mut self,
        into: &str,
        columns: usize,
        values: &[Value<'_>],
        conflict: &str,
    ) -> Result<(), sqlx::Error> {
        let bytes = |values: &[Value<'_>]| -> usize {
            let size = |value: &Value<'_>| match value {
                Value::Text(text) => text.len(),
                Value::Bytes(bytes) => bytes.len(),
                Value::Integer(_) | Value::OptionalText(_) => 8,
            };
            values.iter().map(size).sum()
        };
        let mut rest = values;
        while !rest.is_empty() {
            let rows = ROWS.into_iter().find(|rows| {
                let values = rest.get(..rows * columns);
                *rows == 1 || values.is_some_and(|values| bytes(values) <= BYTES)
            });
            let rows = rows.unwrap_or(1);
            let (now, later) = rest.split_at(rows * columns);
            let places = self.placeholders(rows, columns);
            let sql = format!("{into} VALUES {places} {conflict}");
            self.execute(AssertSqlSafe(sql), now).await?;
            rest = later;
        }
        Ok(())
    }

    /// SQLite looks for a parameter's number among all that it has, so that many are cheap only without one.
    fn placeholders(&self, rows: usize, columns: usize) -> String {
        let place = |number: usize| match self {
            Connection::Sqlite(_) => "?".to_owned(),
            Connection::Postgres(_) => format!("${number}"),
        };
        let row = |row: usize| {
            let places: Vec<String> = (1..=columns)
                .map(|column| place(row * columns + column))
                .collect();
            format!("({})", places.join(", "))
        };
        (0..rows).map(row).collect::<Vec<String>>().join(", ")
    }
}

async fn open_sqlite(path: &Path, access: Access) -> Result<Connection, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .foreign_keys(false)
        .statement_cache_capacity(STATEMENTS);
    let options = match access {
        Access::Look => options.read_only(true),
        Access::Write | Access::Create => options
            .create_if_missing(access == Access::Create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full),
    };
    // SQLite does not wait by itself for whoever holds a file that is to get its write-ahead log.
    let patience = Instant::now() + BUSY;
    loop {
        match disk::statement(options.connect()).await {
            Err(error) if is_busy(&error) && Instant::now() < patience => {
                tokio::time::sleep(AGAIN).await;
            }
            connected => return Ok(Connection::Sqlite(connected?)),
        }
    }
}

/// Whether another process holds the file: SQLITE_BUSY, with whatever makes it more precise in the bits above.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    let code = code.and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

async fn open_postgres(url: &str) -> Result<Connection, sqlx::Error> {
    let mut options = PgConnectOptions::from_str(url)?.statement_cache_capacity(STATEMENTS);
    if options.get_application_name().is_none() {
        options = options.application_name("evenkeel");
    }
    let connecting = tokio::time::timeout(CONNECT, options.connect());
    let connection = connecting
        .await
        .map_err(|_| sqlx::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))??;
    let mut connection = Connection::Postgres(connection);
    // What is acknowledged is durable, whatever the server's default is; and a coordinator that stands still in the middle
    // of a transaction does not keep another one from taking over.
    connection
        .script(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
             SET idle_in_transaction_session_timeout = '60s'",
        )
        .await?;
    Ok(connection)
}

/// Whether the error says that the connection is gone, and not that the database refuses something.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
        _ => false,
    }
}

/// Whether a row with this key is there already.
pub(super) fn is_conflict(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}
