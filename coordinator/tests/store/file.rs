//! What is SQLite's own: the file that holds the store.

use crate::place::{Place, batch, close, note, notes, open, sample};
use crate::server::fresh_directory;
use evenkeel_coordinator::store::{FILE, Store, StoreAddress, StoreError};
use sqlx::{Connection, Executor, SqliteConnection};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// The files of a directory, as a look at them finds them.
fn files(directory: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let seen = entries.map(|entry| {
        let data = entry.metadata().unwrap();
        (
            entry.file_name().to_string_lossy().into_owned(),
            (data.len(), data.modified().unwrap()),
        )
    });
    seen.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_changes_nothing() {
    let root = fresh_directory();
    let directory = root.join("100% of a place?#");
    let store = Store::open(&directory).await.unwrap();
    assert_eq!((store.epoch(), store.secret()), (0, [0; 32]));
    let run = open(&store, "r1").await;
    close(&store, run, 0).await.unwrap();
    let before = files(&directory);
    let looking = Store::read(&directory).await.unwrap();
    assert_eq!(looking.runs(3).await.unwrap().len(), 1);
    assert_eq!(looking.check(|_, _| {}).await.unwrap(), []);
    let refused = looking.import(vec![sample("unit", "a", 1)]).await;
    assert!(
        matches!(refused, Err(StoreError::Statement(_))),
        "{refused:?}"
    );
    assert_eq!(looking.rows("r1").await.unwrap().unwrap().1.len(), 2);
    assert_eq!(files(&directory), before);
    std::fs::remove_dir_all(&root).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_neither_read_nor_inspected() {
    let directory = fresh_directory();
    assert!(matches!(
        Store::read(&directory).await,
        Err(StoreError::Open { .. })
    ));
    let address = StoreAddress::Sqlite(directory.join(FILE));
    assert!(matches!(
        Store::inspect(&address, &directory).await,
        Err(StoreError::Open { .. })
    ));
    assert!(files(&directory).is_empty());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_store_is_left_alone() {
    let place = Place::sqlite().await;
    drop(place.serve("a").await);
    place.sql("PRAGMA user_version = 99").await;
    for refused in [
        Store::open(&place.directory).await.err(),
        Store::read(&place.directory).await.err(),
        Store::inspect(&place.address, &place.directory).await.err(),
        Store::serve_from(&place.address, &place.directory, "b")
            .await
            .err(),
    ] {
        assert!(
            matches!(refused, Some(StoreError::Newer { found: 99, .. })),
            "{refused:?}"
        );
    }
}

/// Local runs and a coordinator that serves share a file, and neither fences the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_served_file_has_room_for_local_runs() {
    let place = Place::sqlite().await;
    let served = place.serve("a").await;
    let local = Store::open(&place.directory).await.unwrap();
    let (one, two) = (open(&served, "one").await, open(&local, "two").await);
    for at in 1..20 {
        let row = || vec![batch(at, vec![note("n")])];
        let (served, local) = tokio::join!(served.append(one, row()), local.append(two, row()));
        served.unwrap();
        local.unwrap();
    }
    drop(served);
    let served = place.serve("b").await;
    assert_eq!(served.unfinished().await.unwrap().len(), 1);
    assert_eq!(served.check(|_, _| {}).await.unwrap(), []);
}

/// A file that cannot grow, as on a full disk, fails what was to be written, and only that.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_grow_fails_what_does_not_fit() {
    const CHILD: &str = "EVENKEEL_TEST_FULL";
    if std::env::var_os(CHILD).is_none() {
        // The limit holds for a whole process, so that this test gets one of its own.
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "file::a_file_that_cannot_grow_fails_what_does_not_fit",
        ]);
        let output = child.env(CHILD, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    let limit = |bytes: libc::rlim_t| {
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: both calls concern this process alone, and the structure lives through the call.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
    };
    let place = Place::sqlite().await;
    let store = place.serve("a").await;
    let (one, two) = (open(&store, "one").await, open(&store, "two").await);
    limit(1 << 20);
    let text = "t".repeat(100_000);
    let mut stored = 0;
    let failure = loop {
        let append = store
            .append(one, vec![batch(stored, vec![note(&text)])])
            .await;
        match append {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100);
    };
    assert!(matches!(failure, StoreError::Statement(_)), "{failure:?}");
    // Whoever asks for little is not affected, or fails alone; then there is room again.
    store
        .append(two, vec![batch(1, vec![note("small")])])
        .await
        .ok();
    limit(libc::RLIM_INFINITY);
    store
        .append(one, vec![batch(stored, vec![note("after")])])
        .await
        .unwrap();
    let (_, batches) = store.rows("one").await.unwrap().unwrap();
    assert_eq!(batches.len() as u64, 1 + stored + 1);
    assert_eq!(notes(&batches).last().unwrap(), "after");
    assert_eq!(store.check(|_, _| {}).await.unwrap(), []);
}

/// Whoever comes while another one makes the file waits for that: SQLite itself does not where a file becomes one with a write-ahead log.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_another_one_makes_is_waited_for() {
    for holds in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let directory = fresh_directory();
        let url = format!("sqlite:{}?mode=rwc", directory.join(FILE).display());
        let mut other = SqliteConnection::connect(&url).await.unwrap();
        other.execute("CREATE TABLE other (id)").await.unwrap();
        other.execute(holds).await.unwrap();
        let opening = tokio::spawn({
            let directory = directory.clone();
            async move { Store::open(&directory).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!opening.is_finished(), "{holds}: {opening:?}");
        other.execute("ROLLBACK").await.unwrap();
        opening.await.unwrap().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
