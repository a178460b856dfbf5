//! Damage of every kind, and what the check says of it.

use crate::both::on_both;
use crate::place::{Place, batch, closed, key, note, open, opened, sample};
use evenkeel_coordinator::record::Totals;
use evenkeel_coordinator::store::{Fault, RunHandle, Store};
use evenkeel_proto::ledger as l;
use l::entry::Body;

on_both!(each_fault_is_found, a_sound_store_has_none);

const TEXT: &[u8] = b"what a test said";

fn attempt(case: u32) -> Body {
    let mut text = blake3::hash(TEXT).as_bytes().to_vec();
    text.extend(0u64.to_le_bytes());
    text.extend((TEXT.len() as u32).to_le_bytes());
    Body::Attempt(l::Attempt {
        lease: 1,
        case,
        outcome: l::Outcome::Passed as i32,
        text,
        ..l::Attempt::default()
    })
}

/// The entries of a run of one unit with two cases, of which one refers to an output.
fn entries() -> Vec<Body> {
    let case = |id: &str| l::Case {
        id: id.to_owned(),
        ..l::Case::default()
    };
    vec![
        Body::AgentJoined(l::AgentJoined::default()),
        Body::ShardOpened(l::ShardOpened::default()),
        Body::Listed(l::Listed {
            units: vec![l::Unit {
                name: "test_a.py".to_owned(),
                ..l::Unit::default()
            }],
            more: false,
            whole: Some(0),
        }),
        Body::Leased(l::Leased {
            lease: 1,
            generation: 1,
            ..l::Leased::default()
        }),
        Body::Declared(l::Declared {
            lease: 1,
            known: Vec::new(),
            cases: vec![case("one"), case("two")],
        }),
        attempt(0),
        Body::Settled(l::Settled {
            unit: 0,
            case: Some(1),
            outcome: "not_run".to_owned(),
            message: String::new(),
        }),
    ]
}

/// A whole run, with what is to be inserted before its end.
async fn run(store: &Store, name: &str, more: Vec<Body>) -> RunHandle {
    let run = open(store, name).await;
    let directory = store.run_directory(run);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("outputs"), TEXT).unwrap();
    for (at, entry) in (1..).zip(entries().into_iter().chain(more)) {
        store
            .append(run, vec![batch(at, vec![entry])])
            .await
            .unwrap();
    }
    let closed = closed("passed");
    let totals = Totals {
        tests: 2,
        passed: 1,
        not_run: 1,
        ..Totals::default()
    };
    let rows = vec![batch(99, vec![Body::Closed(closed.clone())])];
    let samples = vec![sample("unit", name, 5)];
    store
        .close_run(run, rows, &closed, totals, samples)
        .await
        .unwrap();
    run
}

async fn a_sound_store_has_none(place: Place) {
    let store = place.serve("a").await;
    for name in ["r1", "r2"] {
        run(&store, name, Vec::new()).await;
    }
    open(&store, "r3").await;
    let mut heard = Vec::new();
    let findings = store
        .check(|done, of| heard.push((done, of)))
        .await
        .unwrap();
    assert_eq!(findings, []);
    assert_eq!(heard, [(0, 3), (1, 3), (2, 3), (3, 3)]);
}

async fn each_fault_is_found(place: Place) {
    let store = place.serve("a").await;
    let mut expected: Vec<(&str, Option<u64>, &str)> = Vec::new();
    let at = |run: RunHandle, sequence: u64| {
        format!("WHERE run = {} AND sequence = {sequence}", run.number())
    };

    let spoilt = run(&store, "changed", Vec::new()).await;
    let other = place.bytes(&batch(
        1,
        vec![Body::AgentJoined(l::AgentJoined {
            name: "another".to_owned(),
            ..l::AgentJoined::default()
        })],
    ));
    place
        .sql(&format!(
            "UPDATE ledger SET payload = {other} {}",
            at(spoilt, 2)
        ))
        .await;
    expected.push((
        "changed",
        Some(3),
        "it does not follow from the row before it",
    ));

    let spoilt = run(&store, "gap", vec![note("n"), note("m")]).await;
    place
        .sql(&format!("DELETE FROM ledger {}", at(spoilt, 9)))
        .await;
    expected.push(("gap", Some(10), "a row is missing before it"));

    let spoilt = run(&store, "garbled", Vec::new()).await;
    let garbage = place.bytes(&[255; 40]);
    place
        .sql(&format!(
            "UPDATE ledger SET payload = {garbage} {}",
            at(spoilt, 9)
        ))
        .await;
    expected.push(("garbled", Some(9), "it cannot be decoded: "));

    let unknown = Body::Attempt(l::Attempt {
        lease: 7,
        outcome: 1,
        ..l::Attempt::default()
    });
    run(&store, "unfit", vec![unknown]).await;
    expected.push((
        "unfit",
        Some(9),
        "it does not fit what comes before it: the ledger names lease 7",
    ));

    run(&store, "twice", vec![attempt(0)]).await;
    expected.push(("twice", Some(9), "one has its final verdict already"));

    run(&store, "settled", vec![entries().remove(6)]).await;
    expected.push(("settled", Some(9), "two has its final verdict already"));

    let spoilt = run(&store, "fallen", Vec::new()).await;
    place
        .sql(&format!("UPDATE ledger SET epoch = 0 {}", at(spoilt, 9)))
        .await;
    expected.push(("fallen", Some(9), "its epoch is 0, after 1"));

    let spoilt = run(&store, "earlier", Vec::new()).await;
    place
        .sql(&format!(
            "UPDATE runs SET epoch = 0 WHERE id = {}",
            spoilt.number()
        ))
        .await;
    expected.push((
        "earlier",
        None,
        "it is held by epoch 0, but was written by 1",
    ));

    let spoilt = run(&store, "green", Vec::new()).await;
    place
        .sql(&format!(
            "UPDATE runs SET verdict = 'failed', tests = 5 WHERE id = {}",
            spoilt.number()
        ))
        .await;
    expected.push((
        "green",
        None,
        "its verdict is failed in the listing and passed in its ledger",
    ));
    expected.push((
        "green",
        None,
        "its number of tests is 5 in the listing and 2 in its ledger",
    ));

    let spoilt = run(&store, "cut", Vec::new()).await;
    place
        .sql(&format!("DELETE FROM ledger {}", at(spoilt, 9)))
        .await;
    expected.push((
        "cut",
        None,
        "its verdict is passed in the listing and open in its ledger",
    ));

    run(&store, "ended", vec![Body::Closed(closed("passed"))]).await;
    expected.push(("ended", Some(10), "there is something after the run's end"));

    let spoilt = run(&store, "silent", Vec::new()).await;
    std::fs::remove_file(store.run_directory(spoilt).join("outputs")).unwrap();
    expected.push((
        "silent",
        None,
        "the output of one cannot be read: No such file",
    ));

    let spoilt = run(&store, "garbling", Vec::new()).await;
    std::fs::write(
        store.run_directory(spoilt).join("outputs"),
        TEXT.to_ascii_uppercase(),
    )
    .unwrap();
    expected.push((
        "garbling",
        None,
        "the output of one cannot be read: its digest does not match",
    ));

    let spoilt = run(&store, "short", Vec::new()).await;
    std::fs::write(store.run_directory(spoilt).join("outputs"), "wh").unwrap();
    expected.push(("short", None, "the output of one cannot be read: "));

    let misnamed = store.open_run(
        key("keel", "misnamed"),
        1,
        "unit".to_owned(),
        vec![opened("keel", "other")],
    );
    misnamed.await.unwrap();
    expected.push((
        "misnamed",
        Some(1),
        "the run is not opened first, or under another name",
    ));

    let spoilt = open(&store, "empty").await;
    place
        .sql(&format!(
            "DELETE FROM ledger WHERE run = {}",
            spoilt.number()
        ))
        .await;
    expected.push(("empty", None, "it has no rows"));

    let spoilt = open(&store, "unlisted").await;
    place
        .sql(&format!("DELETE FROM runs WHERE id = {}", spoilt.number()))
        .await;
    expected.push(("", None, "it has rows, but is not listed"));

    place.sql("DELETE FROM case_lists").await;
    expected.push((
        "",
        None,
        "the history names 1 lists of cases that are not there",
    ));

    let findings = store.check(|_, _| {}).await.unwrap();
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings.len(), expected.len(), "{said:#?}");
    for (finding, (run, row, text)) in findings.iter().zip(expected) {
        assert_eq!((finding.run.as_str(), finding.row), (run, row), "{finding}");
        assert!(finding.fault.to_string().starts_with(text), "{finding}");
    }
    let unlisted = findings
        .iter()
        .find(|finding| finding.fault == Fault::Unlisted)
        .unwrap();
    assert_eq!(unlisted.number, spoilt.number());
}
