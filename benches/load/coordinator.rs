//! The real coordinator as a process of its own, and what the kernel says of it.

use super::EVENKEEL;
use evenkeel_proto::{MAX_MESSAGE, suite::Suite, v1};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use v1::run_service_client::RunServiceClient;

pub struct Coordinator {
    child: Child,
    pub address: String,
    pub state: PathBuf,
    store: Option<String>,
}

impl Coordinator {
    pub fn start(store: Option<&str>) -> Coordinator {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("evenkeel-load-{}-{number}", std::process::id());
        let state = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&state).expect("a temporary directory");
        let store = store.map(str::to_owned);
        let (child, address) = spawn(&state, store.as_deref(), "127.0.0.1:0");
        Coordinator {
            child,
            address,
            state,
            store,
        }
    }

    /// As a power failure does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// At the same place; when the process was started.
    pub fn start_again(&mut self) -> Instant {
        let begun = Instant::now();
        let store = self.store.as_deref();
        (self.child, self.address) = spawn(&self.state, store, &self.address);
        begun
    }

    /// Submits a run and waits for its end.
    pub fn run(&self, id: &str, command: &str) -> v1::Ended {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut client = RunServiceClient::connect(format!("http://{}", self.address))
                .await
                .expect("a connection")
                .max_decoding_message_size(MAX_MESSAGE);
            let request = v1::SubmitRequest {
                project: "load".to_owned(),
                run: format!("{id}-{}", std::process::id()),
                suites: vec![Suite {
                    name: id.to_owned(),
                    command: command.split(' ').map(str::to_owned).collect(),
                    ..Suite::default()
                }],
                ..v1::SubmitRequest::default()
            };
            let run = client.submit(request).await.expect("it is taken");
            let request = v1::WatchRequest {
                run: run.into_inner().run,
                ..v1::WatchRequest::default()
            };
            let mut events = client
                .watch(request)
                .await
                .expect("it is shown")
                .into_inner();
            while let Some(event) = events.message().await.expect("it is shown to its end") {
                if let Some(v1::watch_event::Body::Ended(ended)) = event.body {
                    return ended;
                }
            }
            panic!("the run ended without a word");
        })
    }

    /// The share of a core that it uses in a window from now on.
    pub fn share(&self, window: Duration) -> f64 {
        let (before, begun) = (self.on_cpu(), Instant::now());
        std::thread::sleep(window);
        (self.on_cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
    }

    pub fn on_cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let tasks = tasks.expect("the process is there").flatten();
        let nanos = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let first = stat.split_whitespace().next().map(str::parse::<u64>);
            first.and_then(Result::ok).unwrap_or(0)
        };
        Duration::from_nanos(tasks.map(nanos).sum())
    }

    pub fn peak_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(0.0) / 1024.0
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.state).ok();
    }
}

/// Starts the process, and waits until it says where it listens.
fn spawn(state: &Path, store: Option<&str>, listen: &str) -> (Child, String) {
    let mut command = Command::new(EVENKEEL);
    command.args(["coordinator", "--listen", listen, "--state"]);
    command.arg(state);
    if let Some(store) = store {
        command.args(["--store", store]);
    }
    let log = std::fs::File::create(state.join("log")).expect("a file");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the coordinator starts");
    let mut said = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout)
        .read_line(&mut said)
        .expect("it says where it listens");
    let address = said.trim().rsplit(' ').next().unwrap_or_default();
    (child, address.to_owned())
}
