//! A run that panics each coordinator that takes it up. Each coordinator is a process: this test's binary, started once more.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use evenkeel_coordinator::client::{Remote, Seen};
use evenkeel_coordinator::server::{Coordinator, Settings, blamed, planted};
use evenkeel_coordinator::store::{Store, StoreAddress};
use evenkeel_proto::{suite::Suite, v1};
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use v1::watch_event::Body;

/// What a coordinator's process is told: where its store is.
const PLACE: &str = "EVENKEEL_TEST_POISONED";
/// And what to do there.
const ACT: &str = "EVENKEEL_TEST_ACT";

fn address(place: &Path) -> StoreAddress {
    StoreAddress::Sqlite(place.join("evenkeel.db"))
}

async fn submit(remote: &Remote, run: &str) {
    let request = v1::SubmitRequest {
        run: run.into(),
        suites: vec![Suite {
            name: "unit".into(),
            command: vec!["noop".into()],
            ..Suite::default()
        }],
        ..v1::SubmitRequest::default()
    };
    let submitting = remote.ask(|mut client| {
        let request = request.clone();
        async move { client.submit(request).await }
    });
    submitting.await.unwrap();
}

/// As `evenkeel coordinator` does, which says of a panic which run it came of, and ends.
async fn coordinate(place: &Path, act: &str) {
    std::panic::set_hook(Box::new(|panic| {
        if let Some(blamed) = blamed() {
            blamed.note(&panic.to_string()).unwrap();
        }
        std::process::exit(3);
    }));
    planted::poison("poison");
    let store = Store::serve_from(&address(place), place, "test").await;
    let coordinator = Coordinator::start(store.unwrap(), Settings::default()).await;
    let coordinator = coordinator.unwrap();
    let (connections, accepted) = mpsc::channel(8);
    tokio::spawn(
        coordinator
            .router()
            .serve_with_incoming(ReceiverStream::new(accepted).map(Ok::<_, std::io::Error>)),
    );
    let connector = tower::service_fn(move |_| {
        let connections = connections.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            connections.send(theirs).await.ok();
            Ok::<_, std::io::Error>(TokioIo::new(ours))
        }
    });
    let channel = Endpoint::from_static("http://here").connect_with_connector_lazy(connector);
    let remote = Remote::new(channel, Duration::ZERO);
    match act {
        "submit" => {
            submit(&remote, "fine").await;
            submit(&remote, "poison").await;
            std::future::pending().await
        }
        "go on" => std::future::pending().await,
        "follow" => {
            let mut following = remote.follow("", "poison", false);
            loop {
                if let Seen::Event(Body::Ended(ended)) = following.next().await.unwrap() {
                    println!("{} {} {}", ended.exit_code, ended.verdict, ended.message);
                    return;
                }
            }
        }
        other => panic!("{other}"),
    }
}

/// The coordinator's process itself; nothing where it is not started as one.
#[test]
fn a_coordinator() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
        return;
    };
    let act = std::env::var(ACT).unwrap();
    // A fault is planted in a thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(coordinate(&place, &act));
}

fn start(place: &Path, act: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "a_coordinator", "--nocapture"])
        .env(PLACE, place)
        .env(ACT, act)
        .stdin(Stdio::null());
    command
}

/// How each run is: its exit code, where it is closed.
fn runs(place: &Path) -> Vec<(String, Option<u32>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let store = Store::inspect(&address(place), place).await.unwrap();
        let findings = store.check(|_, _| {}).await.unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let rows = store.runs(10).await.unwrap();
        let rows = rows.into_iter().map(|row| {
            let closed = row.closed.map(|closed| closed.exit_code);
            (row.key.run, closed)
        });
        rows.collect()
    })
}

#[test]
fn a_run_that_ends_its_coordinator_three_times_is_set_aside_and_the_others_go_on() {
    let place = std::env::temp_dir().join(format!("ek-poisoned-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    let open = |run: &str| (run.to_owned(), None);
    for act in ["submit", "go on", "go on"] {
        let ended = start(&place, act).output().unwrap();
        assert_eq!(ended.status.code(), Some(3), "{act}");
        assert_eq!(runs(&place), [open("poison"), open("fine")], "{act}");
    }
    let followed = start(&place, "follow").output().unwrap();
    assert!(followed.status.success(), "{followed:?}");
    let said = String::from_utf8_lossy(&followed.stdout);
    assert!(said.contains("3 incomplete a defect of Evenkeel"), "{said}");
    assert!(said.contains("a defect was planted for this run"), "{said}");
    let report = std::fs::read_to_string(place.join("runs/2/report.json")).unwrap();
    assert!(report.contains("ended the coordinator 3 times"), "{report}");
    assert_eq!(runs(&place), [("poison".to_owned(), Some(3)), open("fine")]);
    std::fs::remove_dir_all(&place).unwrap();
}
