//! PostgreSQL goes away under a store, and commits whose answers never come.

use crate::place::{Place, batch, close, note, notes, open, sample};
use crate::server::{Server, fresh_directory, url};
use evenkeel_coordinator::store::{Store, StoreAddress, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Appends are under way while the server crashes several times: what was acknowledged is there, once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_the_server_crashes() {
    let server = Arc::new(tokio::task::spawn_blocking(Server::start).await.unwrap());
    let place = Place::on(&server, 0).await;
    let store = place.serve("a").await;
    let done = Arc::new(AtomicU32::new(0));
    let writers: Vec<_> = (0..4)
        .map(|number| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                let run = open(&store, &format!("r{number}")).await;
                let mut rows = 0;
                while done.load(Ordering::Relaxed) == 0 {
                    let batch = |at: u64| batch(at, vec![note(&at.to_string())]);
                    store
                        .append(run, vec![batch(rows), batch(rows + 1)])
                        .await
                        .unwrap();
                    rows += 2;
                }
                close(&store, run, 0).await.unwrap();
                rows
            })
        })
        .collect();
    let crashing = server.clone();
    let crashes = tokio::task::spawn_blocking(move || {
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(150));
            crashing.crash();
            crashing.begin();
        }
    });
    crashes.await.unwrap();
    done.store(1, Ordering::Relaxed);
    let mut all = 0;
    for (number, writer) in writers.into_iter().enumerate() {
        let rows = writer.await.unwrap();
        let (row, batches) = store.rows(&format!("r{number}")).await.unwrap().unwrap();
        let expected: Vec<String> = (0..rows).map(|at| at.to_string()).collect();
        assert_eq!(notes(&batches), expected);
        assert!(row.closed.is_some());
        all += rows;
    }
    assert!(all > 0);
    assert_eq!(store.check(|_, _| {}).await.unwrap(), []);
    assert_eq!(place.number("SELECT COUNT(*) FROM history").await, 8);
}

/// While the server is away, somebody takes the store over as soon as it is back: the first one finds out.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_too_late_is_fenced() {
    let server = Arc::new(tokio::task::spawn_blocking(Server::start).await.unwrap());
    let place = Place::on(&server, 0).await;
    let first = place.serve("first").await;
    let run = open(&first, "r1").await;
    let (down, up) = (server.clone(), server.clone());
    tokio::task::spawn_blocking(move || down.crash())
        .await
        .unwrap();
    let late = first.clone();
    let append =
        tokio::spawn(async move { late.append(run, vec![batch(1, vec![note("late")])]).await });
    tokio::task::spawn_blocking(move || up.begin())
        .await
        .unwrap();
    let second = place.serve("second").await;
    let left = second.unfinished().await.unwrap();
    match append.await.unwrap() {
        Ok(()) => assert_eq!(left[0].batches.len(), 2, "it came before the second one"),
        Err(StoreError::Superseded { by }) => {
            assert_eq!((by.as_str(), left[0].batches.len()), ("second", 1));
        }
        Err(other) => panic!("{other:?}"),
    }
    assert!(matches!(
        first.superseded().await,
        StoreError::Superseded { .. }
    ));
}

/// Stands between a store and its server, and swallows answers to commits.
struct Proxy {
    directory: PathBuf,
    /// How many commits are still to be left without an answer, and how: they reach the server or they do not.
    swallow: Arc<AtomicU32>,
    lose: Arc<AtomicU32>,
}

impl Proxy {
    fn start(server: &Path) -> Proxy {
        let directory = fresh_directory();
        let listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
        let proxy = Proxy {
            directory,
            swallow: Arc::default(),
            lose: Arc::default(),
        };
        let (swallow, lose) = (proxy.swallow.clone(), proxy.lose.clone());
        let server = server.join(".s.PGSQL.5432");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, swallow.clone(), lose.clone()));
            }
        });
        proxy
    }
}

fn taken(count: &AtomicU32) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        })
        .is_ok()
}

async fn carry(
    mut client: UnixStream,
    mut server: UnixStream,
    swallow: Arc<AtomicU32>,
    lose: Arc<AtomicU32>,
) {
    let (mut asked, mut said) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let commit = asked[..length].windows(7).any(|word| word == b"COMMIT\0");
                if commit && taken(&lose) {
                    return;
                }
                server.write_all(&asked[..length]).await.unwrap();
                if commit && taken(&swallow) {
                    let answered = server.read(&mut said).await.unwrap();
                    assert!(answered > 0);
                    return;
                }
            }
            read = server.read(&mut said) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&said[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_looked_for() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let place = Place::on(&server, 0).await;
    drop(place.serve("first").await);
    let proxy = Proxy::start(server.directory());
    let address = StoreAddress::Postgres(url(&proxy.directory, "store_0"));
    let store = Store::serve_from(&address, &place.directory, "proxied")
        .await
        .unwrap();
    let mut runs = 0;
    for (swallow, lose) in [(1, 0), (0, 1), (2, 1), (0, 0)] {
        let next = || {
            proxy.swallow.store(swallow, Ordering::Relaxed);
            proxy.lose.store(lose, Ordering::Relaxed);
        };
        runs += 1;
        next();
        let run = open(&store, &format!("r{runs}")).await;
        for at in 1..4 {
            next();
            store
                .append(run, vec![batch(at, vec![note(&at.to_string())])])
                .await
                .unwrap();
        }
        next();
        close(&store, run, 0).await.unwrap();
        next();
        store.import(vec![sample("other", "a", 1)]).await.unwrap();
        proxy.swallow.store(0, Ordering::Relaxed);
        proxy.lose.store(0, Ordering::Relaxed);
        let (row, batches) = store.rows(&format!("r{runs}")).await.unwrap().unwrap();
        assert_eq!(notes(&batches), ["1", "2", "3"]);
        assert!(row.closed.is_some());
        // A run that is there already is refused, in doubt or not.
        next();
        let again = crate::place::try_open(&store, &format!("r{runs}")).await;
        assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
    }
    assert_eq!(place.number("SELECT COUNT(*) FROM runs").await, runs);
    assert_eq!(
        place.number("SELECT COUNT(*) FROM history").await,
        2 * runs + 1
    );

    // Taking runs over, too.
    open(&store, "left").await;
    drop(store);
    let store = Store::serve_from(&address, &place.directory, "again")
        .await
        .unwrap();
    proxy.swallow.store(1, Ordering::Relaxed);
    let left = store.unfinished().await.unwrap();
    assert_eq!(left.len(), 1);
    store
        .append(left[0].handle, vec![batch(1, vec![note("n")])])
        .await
        .unwrap();
    assert_eq!(store.check(|_, _| {}).await.unwrap(), []);
    std::fs::remove_dir_all(&proxy.directory).ok();
}

/// Opening says at once what is wrong, without the password.
#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let directory = fresh_directory();
    let text = format!(
        "postgres://ada:s3cret@localhost/keel?host={}",
        directory.display()
    );
    let address: StoreAddress = text.parse().unwrap();
    let since = Instant::now();
    let error = Store::serve_from(&address, &directory, "a")
        .await
        .err()
        .unwrap();
    assert!(since.elapsed() < Duration::from_secs(5));
    let said = format!("{error} {error:?}");
    assert!(
        said.contains("ada@localhost") && !said.contains("s3cret"),
        "{said}"
    );
    std::fs::remove_dir_all(&directory).ok();
}
