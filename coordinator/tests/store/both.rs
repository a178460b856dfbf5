//! What holds on both databases.

use crate::place::{Place, batch, close, key, note, notes, open, opened, query, sample, try_open};
use evenkeel_coordinator::run::Lately;
use evenkeel_coordinator::store::{Pruned, Store, StoreError, UnitSample};
use std::time::Duration;

/// Makes two tests of each function: one on SQLite, one on PostgreSQL.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::place::Place::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::place::Place::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both;

on_both!(
    what_is_appended_comes_back,
    many_rows_and_large_ones_come_back,
    damage_is_found,
    a_run_is_registered_once,
    history_comes_back,
    one_of_a_group_is_fenced,
    who_takes_over_fences_the_one_before,
    what_was_left_unfinished_goes_on,
    a_local_run_is_nobodys_to_take,
    old_runs_are_pruned,
    runs_are_found_by_their_names,
    a_store_keeps_its_secret,
    two_open_a_new_store_at_once,
);

async fn what_is_appended_comes_back(place: Place) {
    let store = place.serve("a").await;
    let run = open(&store, "r1").await;
    store
        .append(run, vec![batch(1, vec![note("x")])])
        .await
        .unwrap();
    store
        .append(
            run,
            vec![batch(2, vec![note("y")]), batch(3, vec![note("z")])],
        )
        .await
        .unwrap();
    let listed = store.runs(5).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0].key, listed[0].opened_unix_us),
        (&key("keel", "r1"), 1_000)
    );
    assert!(listed[0].closed.is_none());
    close(&store, run, 3).await.unwrap();

    let other = place.inspect().await;
    let (row, batches) = other.rows("r").await.unwrap().unwrap();
    assert_eq!(notes(&batches), ["x", "y", "z"]);
    assert_eq!(batches.len(), 5);
    assert_eq!(other.batches(&row).await.unwrap().len(), 5);
    let closed = row.closed.unwrap();
    assert_eq!(
        (closed.verdict.as_str(), closed.tests, closed.makespan_us),
        ("passed", 3, 7)
    );
    let payloads = store.payloads(run, 1, 3).await.unwrap();
    assert_eq!(
        payloads,
        [batch(1, vec![note("x")]), batch(2, vec![note("y")])]
    );
    // It is closed, and still nothing keeps one from going on behind its last row.
    store
        .append(run, vec![batch(10, vec![note("late")])])
        .await
        .unwrap();
    assert_eq!(
        other
            .batches(&other.runs(1).await.unwrap()[0])
            .await
            .unwrap()
            .len(),
        6
    );
}

async fn many_rows_and_large_ones_come_back(place: Place) {
    let store = place.serve("a").await;
    let run = open(&store, "r1").await;
    let rows = |from: u64, to: u64| (from..to).map(|at| batch(at, vec![note(&at.to_string())]));
    store.append(run, rows(0, 1_377).collect()).await.unwrap();
    let large = "l".repeat(3 << 20);
    let larger: Vec<_> = (0..5).map(|at| batch(at, vec![note(&large)])).collect();
    store.append(run, larger).await.unwrap();
    store
        .append(run, rows(1_377, 1_400).collect())
        .await
        .unwrap();
    store.append(run, Vec::new()).await.unwrap();
    let (_, batches) = store.rows("r1").await.unwrap().unwrap();
    assert_eq!(batches.len(), 1 + 1_400 + 5);
    let small: Vec<String> = notes(&batches)
        .into_iter()
        .filter(|note| note.len() < 10)
        .collect();
    let expected: Vec<String> = (0..1_400).map(|at: u64| at.to_string()).collect();
    assert_eq!(small, expected);
}

async fn damage_is_found(place: Place) {
    let store = place.serve("a").await;
    let run = open(&store, "r1").await;
    let rows = (0..5).map(|at| batch(at, vec![note("n")]));
    store.append(run, rows.collect()).await.unwrap();
    let other = place.bytes(&batch(1, vec![note("m")]));
    place
        .sql(&format!(
            "UPDATE ledger SET payload = {other} WHERE sequence = 3"
        ))
        .await;
    match store.rows("r1").await {
        Err(StoreError::Damaged { run, sequence, .. }) => {
            assert_eq!((run.as_str(), sequence), ("r1", 4))
        }
        other => panic!("{other:?}"),
    }
    place.sql("DELETE FROM ledger WHERE sequence = 2").await;
    let damaged = store.rows("r1").await;
    assert!(
        matches!(damaged, Err(StoreError::Damaged { sequence: 3, .. })),
        "{damaged:?}"
    );
    // A ledger that does not hold together is not gone on with, and keeps no other from it.
    open(&store, "r2").await;
    drop(store);
    let store = place.serve("b").await;
    let left = store.unfinished().await.unwrap();
    let names: Vec<&str> = left.iter().map(|run| run.row.key.run.as_str()).collect();
    assert_eq!(names, ["r2"]);
}

async fn a_run_is_registered_once(place: Place) {
    let store = place.serve("a").await;
    open(&store, "r1").await;
    let again = try_open(&store, "r1").await;
    assert!(
        matches!(&again, Err(StoreError::Exists { run }) if run == "r1"),
        "{again:?}"
    );
    let elsewhere = store.open_run(
        key("hull", "r1"),
        1,
        "unit".to_owned(),
        vec![opened("hull", "r1")],
    );
    elsewhere.await.unwrap();
    open(&store, "r2").await;
    assert_eq!(place.number("SELECT COUNT(*) FROM ledger").await, 3);
}

async fn history_comes_back(place: Place) {
    let store = place.serve("a").await;
    store
        .import(vec![
            sample("unit", "test_a.py", 77),
            sample("unit", "test_c.py", 78),
        ])
        .await
        .unwrap();
    store
        .import(vec![
            sample("unit", "test_c.py", 79),
            UnitSample {
                revision: 9,
                failures: 1,
                ..sample("unit", "test_d.py", 80)
            },
        ])
        .await
        .unwrap();
    for run in ["r1", "r2"] {
        let run = open(&store, run).await;
        close(&store, run, 2).await.unwrap();
    }
    let history = store.history(query("unit")).await.unwrap();
    let works = |unit: &str| -> Vec<u64> {
        history.past.units[unit]
            .iter()
            .map(|sample| sample.work.0)
            .collect()
    };
    assert_eq!(works("test_a.py"), [1_000, 1_000, 77]);
    assert_eq!(works("test_c.py"), [79]);
    let lately = |revision, failed| Lately { revision, failed };
    assert_eq!(history.lately["test_a.py"], lately(0, None));
    assert_eq!(history.lately["test_d.py"], lately(9, Some(0)));
    assert_eq!(history.cases["test_b.py"].len(), 2);
    assert_eq!(store.suites("keel").await.unwrap(), ["unit"]);
    let times = store.times("keel", "unit").await.unwrap();
    let said: Vec<_> = times
        .iter()
        .map(|unit| (unit.unit.as_str(), unit.work.0, unit.samples, unit.imported))
        .collect();
    assert_eq!(
        said,
        [
            ("test_a.py", 1_000, 3, false),
            ("test_b.py", 2_000, 2, false),
            ("test_c.py", 79, 1, true),
            ("test_d.py", 80, 1, true)
        ]
    );
    assert_eq!(place.number("SELECT COUNT(*) FROM case_lists").await, 1);
}

async fn one_of_a_group_is_fenced(place: Place) {
    let store = place.serve("a").await;
    let mut runs = Vec::new();
    for run in ["r1", "r2", "r3", "r4", "r5"] {
        runs.push(open(&store, run).await);
    }
    place
        .sql("UPDATE runs SET epoch = 9 WHERE run = 'r3'")
        .await;
    for at in 0..20 {
        let appends = runs.iter().map(|run| {
            let store = store.clone();
            let run = *run;
            tokio::spawn(async move { store.append(run, vec![batch(at, vec![note("n")])]).await })
        });
        let appends: Vec<_> = appends.collect();
        for (append, run) in appends.into_iter().zip(&runs) {
            match append.await.unwrap() {
                Ok(()) => assert_ne!(*run, runs[2]),
                Err(StoreError::Fenced { run }) => assert_eq!(run, runs[2].number()),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert!(matches!(
        close(&store, runs[2], 0).await,
        Err(StoreError::Fenced { .. })
    ));
    for (name, rows) in [("r1", 21), ("r3", 1), ("r5", 21)] {
        assert_eq!(
            store.rows(name).await.unwrap().unwrap().1.len(),
            rows,
            "{name}"
        );
    }
}

async fn who_takes_over_fences_the_one_before(place: Place) {
    let first = place.serve("first").await;
    assert_eq!(first.epoch(), 1);
    let run = open(&first, "r1").await;
    let waiting = first.clone();
    let superseded = tokio::spawn(async move { waiting.superseded().await });
    let second = place.serve("second").await;
    assert_eq!(second.epoch(), 2);

    // Nobody wrote: it is noticed by looking.
    let told = tokio::time::timeout(Duration::from_secs(2), superseded)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        told.to_string(),
        "another coordinator (second) has taken over the store"
    );
    let is_fenced = |result: Result<(), StoreError>| matches!(&result, Err(StoreError::Superseded { by }) if by == "second");
    assert!(is_fenced(
        first.append(run, vec![batch(1, vec![note("n")])]).await
    ));
    assert!(is_fenced(try_open(&first, "r2").await.map(|_| ())));
    assert!(is_fenced(close(&first, run, 1).await));
    assert!(is_fenced(first.unfinished().await.map(|_| ())));
    assert!(is_fenced(first.import(vec![sample("unit", "a", 1)]).await));
    // It may still look.
    assert_eq!(first.rows("r1").await.unwrap().unwrap().1.len(), 1);
    open(&second, "r2").await;
    assert_eq!(place.number("SELECT COUNT(*) FROM ledger").await, 2);

    // What notices it by a write is told at once.
    let third = place.serve("third").await;
    assert!(second.append(run, Vec::new()).await.is_err());
    let told = tokio::time::timeout(Duration::from_millis(100), second.superseded()).await;
    assert!(told.unwrap().to_string().contains("third"));
    let quiet = tokio::time::timeout(Duration::from_millis(1_200), third.superseded()).await;
    assert!(quiet.is_err(), "nobody has taken it over from the third");
}

async fn what_was_left_unfinished_goes_on(place: Place) {
    let store = place.serve("a").await;
    let left = open(&store, "left").await;
    store
        .append(left, vec![batch(1, vec![note("before")])])
        .await
        .unwrap();
    let done = open(&store, "done").await;
    close(&store, done, 0).await.unwrap();
    let empty = open(&store, "last").await;
    drop(store);

    let store = place.serve("b").await;
    let unfinished = store.unfinished().await.unwrap();
    let names: Vec<_> = unfinished
        .iter()
        .map(|run| run.row.key.run.as_str())
        .collect();
    assert_eq!(names, ["left", "last"]);
    assert_eq!(unfinished[0].batches.len(), 2);
    let handle = unfinished[0].handle;
    assert_eq!(
        (handle.number(), unfinished[1].handle.number()),
        (left.number(), empty.number())
    );
    assert_ne!(handle, left);
    let own = open(&store, "own").await;
    assert!(
        store.unfinished().await.unwrap().is_empty(),
        "they and its own are this one's by now"
    );
    store
        .append(own, vec![batch(1, vec![note("own")])])
        .await
        .unwrap();
    store
        .append(handle, vec![batch(2, vec![note("after")])])
        .await
        .unwrap();
    assert!(matches!(
        store
            .append(left, vec![batch(2, vec![note("stale")])])
            .await,
        Err(StoreError::Fenced { .. })
    ));
    close(&store, handle, 0).await.unwrap();
    let (_, batches) = store.rows("left").await.unwrap().unwrap();
    assert_eq!(notes(&batches), ["before", "after"]);
    assert_eq!(store.check(|_, _| {}).await.unwrap(), []);
}

async fn a_local_run_is_nobodys_to_take(place: Place) {
    let local = place.serve("setting up").await;
    drop(local);
    let local = place.inspect().await;
    assert_eq!(local.epoch(), 0);
    let run = open(&local, "local").await;
    let store = place.serve("b").await;
    assert!(store.unfinished().await.unwrap().is_empty());
    // Nor is it fenced by a coordinator that serves.
    local
        .append(run, vec![batch(1, vec![note("n")])])
        .await
        .unwrap();
    close(&local, run, 0).await.unwrap();
    assert!(local.unfinished().await.unwrap().is_empty());
    let never = tokio::time::timeout(Duration::from_millis(10), local.superseded()).await;
    assert!(never.is_err());
}

async fn old_runs_are_pruned(place: Place) {
    let store = place.serve("a").await;
    let left = open(&store, "left").await;
    for number in 0..13 {
        let run = open(&store, &format!("old{number}")).await;
        std::fs::create_dir_all(store.run_directory(run)).unwrap();
        std::fs::write(store.run_directory(run).join("outputs"), "x").unwrap();
        close(&store, run, 0).await.unwrap();
    }
    let kept = open(&store, "kept").await;
    std::fs::create_dir_all(store.run_directory(kept)).unwrap();
    close(&store, kept, 0).await.unwrap();
    let then = place
        .number("SELECT closed_unix_us FROM runs WHERE run = 'kept'")
        .await;
    // They were all closed within the same moment otherwise.
    place
        .sql("UPDATE runs SET closed_unix_us = closed_unix_us - 1000000 WHERE run LIKE 'old%'")
        .await;
    place.sql("UPDATE history SET taken_unix_us = 5 WHERE run <> (SELECT id FROM runs WHERE run = 'kept')").await;
    let digest = place.bytes(&[1; 32]);
    place
        .sql(&format!(
            "INSERT INTO case_lists (digest, cases) VALUES ({digest}, {digest})"
        ))
        .await;

    let maintenance = place.inspect().await;
    let pruned = maintenance.prune(then as u64).await.unwrap();
    // Of the history the ten newest runs stay, of which one is new: nine old ones.
    assert_eq!(
        pruned,
        Pruned {
            runs: 13,
            rows: 26,
            samples: 8
        }
    );
    assert_eq!(
        maintenance.prune(then as u64).await.unwrap(),
        Pruned::default()
    );
    let names: Vec<_> = store
        .runs(9)
        .await
        .unwrap()
        .into_iter()
        .map(|run| run.key.run)
        .collect();
    assert_eq!(names, ["kept", "left"]);
    let directories = std::fs::read_dir(place.directory.join("runs"))
        .unwrap()
        .count();
    assert_eq!(directories, 1);
    assert_eq!(place.number("SELECT COUNT(*) FROM case_lists").await, 1);
    assert_eq!(
        place
            .number("SELECT COUNT(DISTINCT run) FROM history")
            .await,
        10
    );

    // A number is never given twice, also if that of the newest run was removed.
    let newest = open(&store, "newest").await;
    close(&store, newest, 0).await.unwrap();
    store.prune(u64::MAX >> 1).await.unwrap();
    let next = open(&store, "next").await;
    assert!(next.number() > newest.number());
    store
        .append(left, vec![batch(1, vec![note("n")])])
        .await
        .unwrap();
    assert_eq!(store.check(|_, _| {}).await.unwrap(), []);
}

async fn runs_are_found_by_their_names(place: Place) {
    let store = place.serve("a").await;
    for run in ["ab", "abc", "abd", "b%", "bx", "ü1", "ü2"] {
        open(&store, run).await;
    }
    let other = store.open_run(
        key("hull", "abc"),
        1,
        "unit".to_owned(),
        vec![opened("hull", "abc")],
    );
    other.await.unwrap();
    for number in 0..12 {
        open(&store, &format!("many{number:02}")).await;
    }
    let found = async |project: Option<&str>, run: &str| -> Vec<String> {
        let found = store.find(project, run).await.unwrap().into_iter();
        found
            .map(|row| format!("{}/{}", row.key.project, row.key.run))
            .collect()
    };
    assert_eq!(found(None, "ab").await, ["keel/ab"]);
    assert_eq!(found(None, "abc").await, ["hull/abc", "keel/abc"]);
    assert_eq!(found(Some("keel"), "abc").await, ["keel/abc"]);
    assert_eq!(found(Some("hull"), "a").await, ["hull/abc"]);
    assert_eq!(
        found(None, "a").await,
        ["hull/abc", "keel/abd", "keel/abc", "keel/ab"]
    );
    assert_eq!(found(None, "b%").await, ["keel/b%"]);
    assert_eq!(found(None, "ü").await, ["keel/ü2", "keel/ü1"]);
    assert_eq!(found(None, "many").await.len(), 10);
    assert_eq!(found(None, "many").await[0], "keel/many11");
    assert!(found(None, "x").await.is_empty());
    assert!(found(Some("sail"), "ab").await.is_empty());
    assert_eq!(store.runs_of(Some("hull"), 9).await.unwrap().len(), 1);
    assert_eq!(store.runs_of(None, 3).await.unwrap().len(), 3);
    assert!(store.rows("abx").await.unwrap().is_none());
    assert!(
        store.rows("a").await.unwrap().is_none(),
        "it may be one of several"
    );
    assert_eq!(store.rows("abd").await.unwrap().unwrap().0.key.run, "abd");
    assert_eq!(store.rows("bx").await.unwrap().unwrap().0.key.run, "bx");
}

async fn a_store_keeps_its_secret(place: Place) {
    let first = place.serve("a").await;
    assert_ne!(first.secret(), [0; 32]);
    let second = place.serve("b").await;
    assert_eq!(first.secret(), second.secret());
    assert_eq!(place.inspect().await.secret(), second.secret());
    assert_eq!(place.inspect().await.epoch(), 0);
    assert_eq!(second.directory(), place.directory);
}

async fn two_open_a_new_store_at_once(place: Place) {
    let opening = (0..4).map(|number| {
        let (address, directory) = (place.address.clone(), place.directory.clone());
        tokio::spawn(
            async move { Store::serve_from(&address, &directory, &number.to_string()).await },
        )
    });
    let opening: Vec<_> = opening.collect();
    let mut epochs = Vec::new();
    for opened in opening {
        epochs.push(opened.await.unwrap().unwrap().epoch());
    }
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2, 3, 4]);
}
