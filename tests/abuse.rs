//! What strangers, forgers and broken agents send to a coordinator while an honest run goes on: each is refused by name, and the honest
//! run ends green with all its tests.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

#[path = "abuse/hand.rs"]
mod hand;
mod support;

use evenkeel_proto::{MAX_MESSAGE, ledger as l, suite::Suite as Wanted, v1};
use hand::{CASES, Hand, PATIENCE, UNITS, hello, open, passed, passes, say};
use l::entry::Body as Entry;
use prost::Message;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use support::{EVENKEEL, Running, Suite, noop};
use tonic::transport::Channel;
use tonic::{Code, Status};
use v1::agent_message::Body as Say;
use v1::fact::Body as Fact;
use v1::run_service_client::RunServiceClient;

/// A coordinator, an agent and a run that must not notice anything.
struct House<'a> {
    suite: &'a Suite,
    coordinator: Running<'a>,
    agent: Running<'a>,
    run: Running<'a>,
    address: String,
}

const HONEST: usize = 1200;

impl<'a> House<'a> {
    fn new(suite: &'a Suite) -> House<'a> {
        let mut command = suite.command(EVENKEEL);
        command.args([
            "coordinator",
            "--listen",
            "127.0.0.1:0",
            "--lost-after",
            "2s",
        ]);
        let mut coordinator = suite.start(command);
        let out = coordinator.stdout_path();
        let mut address = String::new();
        coordinator.until("the coordinator's address", || {
            let said = std::fs::read_to_string(&out).unwrap();
            let found = said.strip_prefix("listening on ");
            address = found.unwrap_or_default().trim_end().to_owned();
            said.ends_with('\n')
        });
        let mut command = suite.command(EVENKEEL);
        command.args(["agent", "--coordinator", &address, "--name", "honest"]);
        command.args(["--slots", "2", "--label", "honest=yes"]);
        let agent = suite.start(command);
        let mut command = suite.command(EVENKEEL);
        command.args(["run", "--coordinator", &address, "--run-id", "honest"]);
        command.args(["--label", "honest=yes", "--json", "report.json"]);
        command.args(["--events", "events.ndjson", "--runner", "protocol", "--"]);
        command.args(noop(&[
            "--units",
            "60",
            "--cases",
            "20",
            "--sleep-us",
            "4000",
        ]));
        let mut run = suite.start(command);
        run.until("a test to end", || {
            suite.read("events.ndjson").contains("test_finished")
        });
        House {
            suite,
            coordinator,
            agent,
            run,
            address,
        }
    }

    /// The honest run has ended as if nothing had been. What the coordinator has written of the rest is returned.
    fn close(self) -> String {
        self.run.end().exits(0).says(&["1200 passed"]);
        let outcomes = self.suite.report().outcomes();
        assert_eq!(outcomes.len(), HONEST);
        assert!(outcomes.values().all(|outcome| outcome == "passed"));
        let events = self.suite.events();
        support::sound(&events);
        assert_eq!(support::named(&events, "agent_joined").count(), 1);
        assert_eq!(support::named(&events, "evidence").count(), 0);
        self.agent.signal(libc::SIGTERM);
        self.agent.end().exits(0);
        self.coordinator.signal(libc::SIGTERM);
        let ended = self.coordinator.end();
        ended.exits(0);
        self.suite.nothing_stays();
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended.stderr
    }

    async fn client(&self) -> RunServiceClient<Channel> {
        RunServiceClient::connect(format!("http://{}", self.address))
            .await
            .unwrap()
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(4 * MAX_MESSAGE)
    }

    /// The number of the honest run in the store: it is the first.
    const NUMBER: u64 = 1;
}

fn now<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(work)
}

#[track_caller]
fn refused(status: &Status, code: Code, words: &[&str]) {
    assert_eq!(status.code(), code, "{status:?}");
    for word in words {
        assert!(status.message().contains(word), "{word:?} in {status:?}");
    }
}

/// A run for agents that are played by hand.
fn by_hand(run: &str) -> v1::SubmitRequest {
    v1::SubmitRequest {
        run: run.to_owned(),
        suites: vec![wanted("by hand")],
        labels: [("hand".to_owned(), "yes".to_owned())].into(),
        ..v1::SubmitRequest::default()
    }
}

fn wanted(name: &str) -> Wanted {
    Wanted {
        name: name.to_owned(),
        runner: "protocol".to_owned(),
        command: vec!["by-hand".to_owned()],
        directory: "/".to_owned(),
        ..Wanted::default()
    }
}

/// The rows of a run until its end, and that.
async fn watched(client: &mut RunServiceClient<Channel>, run: &str) -> (Vec<Entry>, v1::Ended) {
    let request = v1::WatchRequest {
        run: run.to_owned(),
        rows: true,
        ..v1::WatchRequest::default()
    };
    let mut events = client.watch(request).await.unwrap().into_inner();
    let mut entries = Vec::new();
    loop {
        let event = tokio::time::timeout(PATIENCE, events.message()).await;
        match event.unwrap().unwrap().unwrap().body.unwrap() {
            v1::watch_event::Body::Row(row) => {
                let batch = l::Batch::decode(row.payload.as_slice()).unwrap();
                entries.extend(batch.entries.into_iter().filter_map(|entry| entry.body));
            }
            v1::watch_event::Body::Ended(ended) => return (entries, ended),
            _ => {}
        }
    }
}

/// A connection on which these bytes are sent is ended by the other side.
fn hangs_up(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = [0; 4096];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("it is still listening: {error}"),
        }
    }
}

#[test]
fn strangers_are_hung_up_on() {
    let suite = Suite::new();
    let house = House::new(&suite);
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(&house.address).unwrap())
        .collect();
    hangs_up(&house.address, &[0xA5; 9000]);
    hangs_up(&house.address, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n");
    now(async {
        let beat = say(Say::Heartbeat(v1::Heartbeat::default()));
        let status = open(&house.address, vec![beat]).await.unwrap_err();
        refused(&status, Code::InvalidArgument, &["starts with a hello"]);
        let status = open(&house.address, Vec::new()).await.unwrap_err();
        refused(&status, Code::DeadlineExceeded, &["no hello came"]);
        let mut long = hello("long");
        long.agent = "x".repeat(MAX_MESSAGE + 1);
        let status = open(&house.address, vec![say(Say::Hello(long))]).await;
        refused(&status.unwrap_err(), Code::OutOfRange, &["too large"]);
        let mut large = Hand::come(&house.address, hello("large")).await.unwrap();
        let reason = "x".repeat(MAX_MESSAGE + 1);
        large.say(Say::Goodbye(v1::Goodbye { reason })).await;
        refused(&large.end().await, Code::OutOfRange, &["too large"]);
    });
    drop(silent);
    let log = house.close();
    let lines = [
        "what is not allowed",
        "failed serving connection",
        "session refused: a session starts with a hello",
        "session refused: no hello came",
    ];
    for line in lines {
        assert!(log.contains(line), "{line} is not in {log}");
    }
}

#[test]
fn hellos_are_looked_at() {
    let suite = Suite::new();
    let house = House::new(&suite);
    now(async {
        let come = async |change: fn(&mut v1::Hello)| {
            let mut wrong = hello("wrong");
            change(&mut wrong);
            Hand::come(&house.address, wrong).await.err().unwrap()
        };
        let newer = come(|h| (h.min_version, h.max_version) = (3, 4)).await;
        refused(&newer, Code::FailedPrecondition, &["3 to 4", "1 to 2"]);
        let older = come(|h| (h.min_version, h.max_version) = (0, 0)).await;
        refused(&older, Code::FailedPrecondition, &["0 to 0", "1 to 2"]);
        type Spoils = fn(&mut v1::Hello);
        let wrong: [(Spoils, &str); 7] = [
            (|h| h.slots = 0, "slots"),
            (|h| h.slots = 1_000_000, "slots"),
            (
                |h| {
                    h.labels = (0..100_000)
                        .map(|n| (n.to_string(), String::new()))
                        .collect()
                },
                "labels",
            ),
            (|h| h.incarnation.clear(), "incarnation"),
            (|h| h.incarnation = "x".repeat(300), "bytes"),
            (|h| h.agent = "x".repeat(300), "bytes"),
            (|h| h.agent = "a\x1b[2Jb".to_owned(), "control"),
        ];
        for (change, word) in wrong {
            refused(&come(change).await, Code::InvalidArgument, &[word]);
        }
        let mut twice = Hand::come(&house.address, hello("twice")).await.unwrap();
        twice.say(Say::Hello(hello("twice"))).await;
        refused(&twice.end().await, Code::InvalidArgument, &["second hello"]);
    });
    let log = house.close();
    assert!(log.contains("a second hello"), "{log}");
}

/// Agents that share a run with honest ones: what they may not say ends their session, and what they hold goes elsewhere.
#[test]
fn facts_are_taken_from_whom_they_concern() {
    let suite = Suite::new();
    let house = House::new(&suite);
    now(async {
        let mut client = house.client().await;
        client.submit(by_hand("shared")).await.unwrap();
        let given = async |name: &str| {
            let mut hand = Hand::come(&house.address, hello(name)).await.unwrap();
            hand.idle = true;
            assert!(hand.serve(|hand| !hand.leases.is_empty()).await);
            hand
        };
        let mut good = given("good").await;
        let mut other = given("other").await;

        // What is not its own is evidence, or nothing.
        let (lease, generation) = (good.leases[0].lease, good.leases[0].generation);
        other
            .tell(vec![Fact::CaseEnded(passed(lease, generation, 0))])
            .await;
        let mut elsewhere = other.batch(vec![Fact::CaseEnded(passed(lease, generation, 0))]);
        elsewhere.facts[0].slot = 7;
        other.sequence += 1;
        other.say(Say::Facts(elsewhere)).await;
        let mut unknown = other.batch(vec![Fact::Halt(v1::Halt::default())]);
        unknown.number = 999;
        other.say(Say::Facts(unknown)).await;

        // What is told again is not heard again, whatever it says now.
        let mut facts = passes(&good.leases[0]);
        let first = good.sequence + 1;
        good.tell(facts.clone()).await;
        for fact in &mut facts {
            if let Fact::CaseEnded(ended) = fact {
                ended.outcome = v1::Outcome::Failed as i32;
            }
        }
        let mut replayed = good.batch(facts);
        replayed.first_sequence = first;
        good.say(Say::Facts(replayed)).await;

        let mut guesses = given("guesses").await;
        let lease = guesses.leases[0].lease;
        let strange = v1::CaseEnded {
            outcome: 99,
            ..passed(lease, 1, 0)
        };
        guesses.tell(vec![Fact::CaseEnded(strange)]).await;
        refused(&guesses.end().await, Code::InvalidArgument, &["99"]);

        let mut forgets = given("forgets").await;
        forgets.sequence += 5;
        forgets.tell(passes(&forgets.leases[0].clone())).await;
        refused(&forgets.end().await, Code::DataLoss, &["are missing"]);

        let mut strays = given("strays").await;
        let mut stray = strays.batch(vec![Fact::Halt(v1::Halt::default())]);
        stray.number = House::NUMBER;
        strays.say(Say::Facts(stray)).await;
        refused(
            &strays.end().await,
            Code::PermissionDenied,
            &["does not serve"],
        );

        // The two that are left run all that there is.
        for hand in [&mut good, &mut other] {
            hand.idle = false;
        }
        for lease in good.leases.split_off(1) {
            good.tell(passes(&lease)).await;
        }
        for lease in other.leases.clone() {
            other.tell(passes(&lease)).await;
        }
        let (watched, ..) = tokio::join!(
            watched(&mut client, "shared"),
            good.serve(|_| false),
            other.serve(|_| false),
        );
        let (entries, ended) = watched;
        assert_eq!(ended.verdict, "green", "{ended:?}");
        assert_eq!(ended.totals.unwrap().passed, UNITS * CASES);
        let evidence = entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Evidence(_)));
        assert_eq!(evidence.count(), 1);
        let results = entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Attempt(_)));
        assert_eq!(results.count() as u32, UNITS * CASES);
    });
    let log = house.close();
    for word in ["99", "does not serve", "are missing"] {
        assert!(log.contains(word), "{word:?} in {log}");
    }
}

#[test]
fn nobody_takes_the_place_of_an_agent() {
    let suite = Suite::new();
    let house = House::new(&suite);
    now(async {
        let joined = suite.events();
        let joined = support::named(&joined, "agent_joined").next().unwrap();
        for token in ["", "0123456789abcdef"] {
            let forged = v1::Hello {
                incarnation: support::text(&joined["incarnation"]),
                token: token.to_owned(),
                held: vec![v1::Held {
                    number: House::NUMBER,
                    opening: 1,
                    slots: vec![0, 1],
                    ..v1::Held::default()
                }],
                slots: 2,
                ..hello("honest")
            };
            let status = Hand::come(&house.address, forged.clone()).await;
            refused(&status.err().unwrap(), Code::PermissionDenied, &["token"]);
            let bare = v1::Hello {
                held: Vec::new(),
                ..forged
            };
            let status = Hand::come(&house.address, bare).await;
            refused(&status.err().unwrap(), Code::PermissionDenied, &[]);
        }
    });
    let log = house.close();
    assert!(log.contains("session refused: the token"), "{log}");
}

#[test]
fn requests_are_looked_at() {
    let suite = Suite::new();
    let house = House::new(&suite);
    now(async {
        let mut client = house.client().await;
        let long = "x".repeat(300);
        let wrong: [fn(&mut v1::SubmitRequest, &str); 8] = [
            |submit, _| submit.run = "../x".to_owned(),
            |submit, long| submit.run = long.to_owned(),
            |submit, _| submit.suites.clear(),
            |submit, long| submit.suites[0].name = long.to_owned(),
            |submit, _| submit.suites[0].command.clear(),
            |submit, _| submit.suites.push(wanted("by hand")),
            |submit, long| submit.project = long.to_owned(),
            |submit, long| submit.labels = [(long.to_owned(), String::new())].into(),
        ];
        for change in wrong {
            let mut submit = by_hand("wrong");
            change(&mut submit, &long);
            let status = client.submit(submit).await.unwrap_err();
            refused(&status, Code::InvalidArgument, &[]);
        }
        for run in ["../x", &long, "unheard-of"] {
            let run = run.to_owned();
            let watch = v1::WatchRequest {
                run: run.clone(),
                after: u64::MAX,
                ..v1::WatchRequest::default()
            };
            refused(&client.watch(watch).await.unwrap_err(), Code::NotFound, &[]);
            let stop = v1::StopRequest {
                run: run.clone(),
                ..v1::StopRequest::default()
            };
            refused(&client.stop(stop).await.unwrap_err(), Code::NotFound, &[]);
            let fetch = v1::FetchRequest {
                run,
                ..v1::FetchRequest::default()
            };
            refused(&client.fetch(fetch).await.unwrap_err(), Code::NotFound, &[]);
        }
        let fetch = v1::FetchRequest {
            run: "honest".to_owned(),
            report: v1::fetch_request::Report::Json as i32,
            ..v1::FetchRequest::default()
        };
        let status = client.fetch(fetch).await.unwrap_err();
        refused(&status, Code::FailedPrecondition, &["not ended"]);

        // Figures beyond all measure harm nobody.
        let mut vast = by_hand("vast");
        (vast.priority, vast.max_fail, vast.seed) = (i32::MIN, u32::MAX, u64::MAX);
        let suite = &mut vast.suites[0];
        (suite.case_timeout_us, suite.slow_us, suite.grace_us) = (u64::MAX, u64::MAX, u64::MAX);
        client.submit(vast).await.unwrap();
        let mut hand = Hand::come(&house.address, hello("vast")).await.unwrap();
        assert!(hand.serve(|hand| !hand.leases.is_empty()).await);
        let stop = v1::StopRequest {
            run: "vast".to_owned(),
            reason: "that is enough".to_owned(),
            grace_us: u64::MAX,
            ..v1::StopRequest::default()
        };
        client.stop(stop).await.unwrap();
        let ((_, ended), _) = tokio::join!(watched(&mut client, "vast"), hand.serve(|_| false));
        assert_eq!(ended.exit_code, 130, "{ended:?}");
        let fetch = v1::FetchRequest {
            run: "vast".to_owned(),
            report: 77,
            suite: Some(u32::MAX),
            ..v1::FetchRequest::default()
        };
        let status = client.fetch(fetch).await.unwrap_err();
        refused(&status, Code::InvalidArgument, &[]);
        let list = v1::ListRunsRequest {
            limit: u32::MAX,
            ..v1::ListRunsRequest::default()
        };
        let runs = client.list(list).await.unwrap().into_inner().runs;
        assert_eq!(runs.len(), 2);

        // From behind its end a run shows how it ended, or what still comes.
        for run in ["vast", "honest"] {
            let watch = v1::WatchRequest {
                run: run.to_owned(),
                after: u64::MAX,
                rows: true,
                ..v1::WatchRequest::default()
            };
            let mut events = client.watch(watch).await.unwrap().into_inner();
            let first = tokio::time::timeout(PATIENCE, events.message()).await;
            assert!(first.unwrap().unwrap().is_some());
        }
    });
    let log = house.close();
    assert!(
        log.contains("submit refused: \"../x\" is no run id"),
        "{log}"
    );
}

/// Megabytes of output and somebody who asked for them and takes none: it waits for itself only.
#[test]
fn a_watcher_that_does_not_read_keeps_nobody() {
    let suite = Suite::new();
    suite.write(
        "t/test_loud.py",
        "import pytest\n@pytest.mark.parametrize('n', range(60))\ndef test_loud(n):\n    print('loud ' * 60_000)\n    assert False\n",
    );
    let house = House::new(&suite);
    let mut command = suite.command(EVENKEEL);
    command.args([
        "run",
        "--coordinator",
        &house.address,
        "--run-id",
        "loud",
        "--detach",
        "--",
    ]);
    command.args(support::pytest(&["t"]));
    suite.start(command).end().exits(0);
    now(async {
        let mut client = house.client().await;
        let watch = v1::WatchRequest {
            run: "loud".to_owned(),
            rows: true,
            ..v1::WatchRequest::default()
        };
        let deaf = client.watch(watch).await.unwrap().into_inner();
        let (_, ended) = watched(&mut house.client().await, "loud").await;
        assert_eq!(ended.totals.unwrap().failed, 60);
        drop(deaf);
    });
    let status = format!("/proc/{}/status", house.coordinator.pid());
    let status = std::fs::read_to_string(status).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(peak < 400 << 10, "the coordinator took {peak} KiB");
    house.close();
}

/// An agent of the first version of the protocol: facts without a number of their run, sequences that go on from run to run.
#[test]
fn an_agent_of_the_first_version_serves_whole_runs() {
    let suite = Suite::new();
    let house = House::new(&suite);
    now(async {
        let mut client = house.client().await;
        let old = v1::Hello {
            max_version: 1,
            ..hello("old")
        };
        let mut old = Hand::come(&house.address, old).await.unwrap();
        assert_eq!(old.welcome.version, 1);
        for run in ["first", "second"] {
            client.submit(by_hand(run)).await.unwrap();
            let serving = async { while old.serve(|_| false).await {} };
            let ((entries, ended), ()) = tokio::join!(watched(&mut client, run), serving);
            assert_eq!(ended.verdict, "green", "{ended:?}");
            assert_eq!(ended.totals.unwrap().passed, UNITS * CASES);
            let lost = entries
                .iter()
                .filter(|entry| matches!(entry, Entry::AgentGone(_)));
            assert_eq!(lost.count(), 0);
        }
        let reason = "it has nothing to do".to_owned();
        old.say(Say::Goodbye(v1::Goodbye { reason })).await;
        let ended = tokio::time::timeout(Duration::from_secs(10), old.end());
        assert_eq!(ended.await.unwrap().code(), Code::Ok);
    });
    house.close();
}
