//! A world: machines, a network, a coordinator on a real store, agents and clients, and the time in which all of it is played.

use crate::check;
use crate::faults::{self, Fault, Way, Who};
use crate::net;
use crate::planted;
use crate::scenes::Scene;
use crate::stage::{Floor, Machine};
use crate::still;
use crate::suite::{Behaviour, Play};
use crate::twin;
use evenkeel_agent::{Agent, AgentConfig, Alone, Left, News, RunName, stand};
use evenkeel_coordinator::client::{AskError, Remote, Seen};
use evenkeel_coordinator::server::{Coordinator, Settings};
use evenkeel_coordinator::store::{self, Store, StoreAddress};
use evenkeel_proto::v1;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tonic::Code;
use turmoil::Sim;
use v1::watch_event::Body;

/// So long things go wrong; then everything is repaired, and must come to its end.
const TROUBLE: Duration = Duration::from_secs(12);
/// How long that may take.
const CALM: Duration = Duration::from_secs(100);
/// How long an agent waits for its run.
const WAIT: Duration = Duration::from_secs(20);
/// For how long agents and clients try.
const PATIENCE: Duration = Duration::from_secs(40);

/// One that offers slots.
#[derive(Clone, Debug)]
pub struct AgentPlan {
    pub slots: u32,
    pub comes: Duration,
    /// It is for this run only.
    pub only: Option<usize>,
    /// For how long it waits for that one to be submitted.
    pub wait: Duration,
    pub labels: BTreeMap<String, String>,
}

/// What is drawn from a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub plays: Vec<Play>,
    pub submitted: Vec<Duration>,
    pub agents: Vec<AgentPlan>,
    pub faults: Vec<(Duration, Fault)>,
    /// When one comes that comes twice.
    pub twin: Option<Duration>,
    /// What a message takes, at least and at most.
    pub latency: (Duration, Duration),
    pub tick: Duration,
    /// What a transaction waits at most, in milliseconds.
    pub disk: u64,
}

impl Plan {
    pub fn draw(random: &mut Rng) -> Plan {
        let runs = [1, 1, 2, 3][random.usize(0..4)];
        let few = random.u32(0..4) == 0;
        let mut poison = random.u32(0..5) == 0;
        let mut plays: Vec<Play> = (0..runs)
            .map(|number| {
                let play = Play::draw(random, number, poison, few);
                poison &= !play.behaviours().any(|case| case == Behaviour::Poison);
                play
            })
            .collect();
        let labelled = random.u32(0..4) == 0;
        let label = || ("zone".to_owned(), "a".to_owned());
        if labelled {
            plays[0].labels.push(label());
        }
        let count = random.usize(1..5);
        let agents = (0..count)
            .map(|number| AgentPlan {
                slots: random.u32(1..4),
                comes: Duration::from_millis(match random.u32(0..3) {
                    0 => random.u64(0..6_000),
                    _ => random.u64(0..200),
                }),
                // The first serves everything, so that every run can come to its end.
                only: (number > 0 && random.u32(0..3) == 0).then(|| random.usize(0..runs)),
                wait: WAIT,
                labels: (number == 0 || random.bool())
                    .then(label)
                    .into_iter()
                    .collect(),
            })
            .collect();
        let submitted = (0..runs)
            .map(|_| Duration::from_millis(random.u64(0..3_000)))
            .collect();
        let least = random.u64(1..5);
        let mut faults = faults::draw(random, count, runs, TROUBLE);
        if random.u32(0..4) == 0 {
            // Somebody is away for so long that it is given up, and comes back while it still has something to run.
            plays[0].lengthen(random);
            faults::lose_one(random, &mut faults, count);
        }
        let twin = random.u32(0..4) == 0;
        Plan {
            faults,
            twin: twin.then(|| Duration::from_millis(random.u64(0..14_000))),
            plays,
            submitted,
            agents,
            latency: (
                Duration::from_millis(least),
                Duration::from_millis(least + [1, 10, 120][random.usize(0..3)]),
            ),
            tick: Duration::from_millis([2, 5][random.usize(0..2)]),
            disk: [0, 3, 60, 400][random.usize(0..4)],
        }
    }
}

/// How an agent left.
#[derive(Clone, Debug)]
pub enum AgentEnd {
    Left(Left),
    Refused(String),
    GaveUp(String),
}

/// What came to light while a world was played.
#[derive(Default)]
pub struct Log {
    /// Of each run what its client was told at its end.
    pub ended: BTreeMap<usize, v1::Ended>,
    /// Rows that the last client of each run saw.
    pub rows: BTreeMap<usize, Vec<v1::LedgerRow>>,
    pub failed: Vec<String>,
    /// Each agent that ended: which, when, and how.
    pub left: Vec<(usize, Duration, AgentEnd)>,
    pub cancelled: Vec<usize>,
    /// When each agent was taken in.
    pub welcomed: Vec<(usize, Duration)>,
    pub trace: Vec<String>,
    pub talk: bool,
}

pub type Shared = Arc<Mutex<Log>>;

pub fn say(seen: &Shared, line: impl FnOnce() -> String) {
    let at = turmoil::sim_elapsed().unwrap_or_default();
    let line = format!("{:>9.3} {}", at.as_secs_f64(), line());
    let mut seen = seen.lock().expect("nobody panics with it");
    if seen.talk {
        println!("{line}");
    }
    seen.trace.push(line);
}

/// Plays the world of a seed to its end and checks what must hold. What comes back is the same for the same seed.
pub fn play(seed: u64, planted: Option<planted::Fault>, talk: bool) -> String {
    still::begin(seed);
    let plan = Plan::draw(&mut Rng::with_seed(seed));
    play_plan(plan, seed, planted, talk, |_| {})
}

/// The same of a scene.
pub fn play_scene(scene: &Scene, talk: bool) -> String {
    still::begin(0);
    play_plan((scene.plan)(), 0, None, talk, scene.look)
}

fn play_plan(
    plan: Plan,
    seed: u64,
    planted: Option<planted::Fault>,
    talk: bool,
    look: impl FnOnce(&Log),
) -> String {
    let place = Place::create(seed);
    if talk {
        println!("{plan:#?}");
    }
    planted::plant(planted);
    let disk = Mutex::new(Rng::with_seed(seed ^ 0xd15c));
    let most = plan.disk;
    store::simulate(Box::new(move || {
        Duration::from_millis(disk.lock().expect("nobody panics with it").u64(0..=most))
    }));
    let seen: Shared = Arc::new(Mutex::new(Log {
        talk,
        ..Log::default()
    }));
    let floor = Arc::new(Mutex::new(Floor {
        plays: plan.plays.clone(),
        ..Floor::default()
    }));
    let mut world = World {
        sim: turmoil::Builder::new()
            .simulation_duration(Duration::from_secs(100_000))
            .tick_duration(plan.tick)
            .min_message_latency(plan.latency.0)
            .max_message_latency(plan.latency.1)
            .tcp_capacity(1 << 16)
            .rng_seed(seed)
            .build(),
        seen: Arc::clone(&seen),
        floor,
        address: Arc::new(Mutex::new(coordinator(0))),
        coordinators: 0,
        place: place.0.clone(),
        stops: Vec::new(),
        due: Vec::new(),
        plan,
    };
    let over = world.run();
    if talk {
        check::tell(&world.plan, &world.place);
    }
    if let Err(failed) = over {
        panic!("it does not come to its end: {failed}");
    }
    check::check(
        &world.plan,
        &world.floor.lock().expect("it is over"),
        &world.seen,
        &world.place,
    );
    let seen = seen.lock().expect("it is over");
    look(&seen);
    seen.trace.join("\n")
}

/// A directory that goes with its world.
struct Place(PathBuf);

impl Place {
    fn create(seed: u64) -> Place {
        let path =
            std::env::temp_dir().join(format!("evenkeel-wire-{}-{seed}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir_all(&path).expect("there is room for a store");
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn coordinator(number: usize) -> String {
    format!("coordinator{number}")
}

fn agent(number: usize) -> String {
    format!("agent{number}")
}

fn client(number: usize) -> String {
    format!("client{number}")
}

/// Something that is to be done later.
#[derive(Debug)]
enum Later {
    Start(String),
    Repair(Who, String),
    Release(Who, String),
}

struct World {
    sim: Sim<'static>,
    plan: Plan,
    seen: Shared,
    floor: Arc<Mutex<Floor>>,
    /// Which of the coordinators agents and clients go to.
    address: Arc<Mutex<String>>,
    coordinators: usize,
    place: PathBuf,
    stops: Vec<Arc<Mutex<Option<watch::Sender<bool>>>>>,
    due: Vec<(Duration, Later)>,
}

impl World {
    /// Who has not come to an end, where it takes too long.
    fn run(&mut self) -> Result<(), String> {
        self.add_coordinator();
        for number in 0..self.plan.agents.len() {
            self.add_agent(number);
        }
        for number in 0..self.plan.plays.len() {
            self.add_client(number);
        }
        if let Some(comes) = self.plan.twin {
            self.add_twin(comes);
        }
        let faults = std::mem::take(&mut self.plan.faults);
        let mut waiting = faults.iter();
        let mut next = waiting.next();
        let mut calm = false;
        loop {
            let now = self.sim.elapsed();
            still::set(now);
            while let Some((at, fault)) = next
                && *at <= now
            {
                self.strike(fault);
                next = waiting.next();
            }
            self.perform(now);
            if !calm && next.is_none() && now >= TROUBLE {
                calm = true;
                self.repair();
            }
            if self.is_over() {
                break;
            }
            if now > TROUBLE + CALM {
                let failed = self.unfinished();
                self.note(|| format!("HUNG: {failed}"));
                return Err(failed);
            }
            self.sim.step().expect("nobody fails");
        }
        self.plan.faults = faults;
        Ok(())
    }

    fn note(&self, line: impl FnOnce() -> String) {
        let at = self.sim.elapsed();
        let line = format!("{:>9.3} ---- {}", at.as_secs_f64(), line());
        let mut seen = self.seen.lock().expect("nobody panics with it");
        if seen.talk {
            println!("{line}");
        }
        seen.trace.push(line);
    }

    /// Every run has ended, and every agent that is for one run only has gone.
    fn is_over(&mut self) -> bool {
        self.unfinished().is_empty() && self.due.is_empty()
    }

    fn unfinished(&mut self) -> String {
        let mut rest = Vec::new();
        for number in 0..self.plan.plays.len() {
            if self.sim.is_host_running(client(number)) {
                rest.push(client(number));
            }
        }
        for (number, own) in self.plan.agents.iter().enumerate() {
            if own.only.is_some() && self.sim.is_host_running(agent(number)) {
                rest.push(agent(number));
            }
        }
        rest.join(", ")
    }

    // ------------------------------------------------------------ what goes wrong

    fn strike(&mut self, fault: &Fault) {
        self.note(|| format!("{fault:?}"));
        let now = self.sim.elapsed();
        match *fault {
            Fault::Restart(pause) => {
                let name = coordinator(self.coordinators - 1);
                if self.sim.is_host_running(name.as_str()) {
                    self.sim.crash(name.as_str());
                    self.due.push((now + pause, Later::Start(name)));
                }
            }
            Fault::TakeOver => self.add_coordinator(),
            Fault::Kill(number, pause) => self.kill(&agent(number), now + pause),
            Fault::Hangup(number, pause) => {
                if !self.has_ended(number) {
                    self.kill(&client(number), now + pause);
                }
            }
            Fault::Drain(number, pause) => {
                let stop = self.stops[number].lock().expect("nobody panics with it");
                if let Some(stop) = &*stop
                    && !stop.send_replace(true)
                {
                    let again = now + Duration::from_secs(6) + pause;
                    self.due.push((again, Later::Start(agent(number))));
                }
            }
            Fault::Part(who, way, pause) => {
                let (own, other) = (name(who), coordinator(self.coordinators - 1));
                match way {
                    Way::Both => self.sim.partition(own.as_str(), other.as_str()),
                    Way::There => self.sim.partition_oneway(own.as_str(), other.as_str()),
                    Way::Back => self.sim.partition_oneway(other.as_str(), own.as_str()),
                }
                self.due.push((now + pause, Later::Repair(who, other)));
            }
            Fault::Hold(who, pause) => {
                let (own, other) = (name(who), coordinator(self.coordinators - 1));
                self.sim.hold(own.as_str(), other.as_str());
                self.due.push((now + pause, Later::Release(who, other)));
            }
            Fault::Cancel(number) => self.cancel(number),
            Fault::Jump(seconds) => still::jump(seconds),
        }
    }

    fn has_ended(&self, run: usize) -> bool {
        let seen = self.seen.lock().expect("nobody panics with it");
        seen.ended.contains_key(&run)
    }

    fn kill(&mut self, name: &str, again: Duration) {
        if self.sim.is_host_running(name) {
            self.sim.crash(name);
            if let Some(number) = name
                .strip_prefix("agent")
                .and_then(|own| own.parse::<usize>().ok())
            {
                *self.stops[number].lock().expect("nobody panics with it") = None;
            }
            self.due.push((again, Later::Start(name.to_owned())));
        }
    }

    fn perform(&mut self, now: Duration) {
        let downed = {
            let mut floor = self.floor.lock().expect("nobody panics with it");
            std::mem::take(&mut floor.downed)
        };
        for name in downed {
            self.note(|| format!("{name} goes down with a test"));
            self.kill(&name, now + Duration::from_secs(1));
        }
        let (ripe, rest) = std::mem::take(&mut self.due)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.due = rest;
        for (_, later) in ripe {
            self.note(|| format!("{later:?}"));
            match later {
                // Another one has its place.
                Later::Start(name)
                    if name.starts_with("coordinator")
                        && name != coordinator(self.coordinators - 1) => {}
                Later::Start(name) => {
                    let told = |stop: &Arc<Mutex<Option<watch::Sender<bool>>>>| {
                        let stop = stop.lock().expect("nobody panics with it");
                        stop.as_ref().is_some_and(|stop| *stop.borrow())
                    };
                    let number = name.strip_prefix("agent").and_then(|own| own.parse().ok());
                    let leaves = number.is_some_and(|own: usize| told(&self.stops[own]));
                    if self.sim.is_host_running(name.as_str()) {
                        if !leaves {
                            continue;
                        }
                        // It is still on its way out.
                        let at = self.sim.elapsed() + Duration::from_secs(1);
                        self.due.push((at, Later::Start(name)));
                    } else {
                        self.sim.bounce(name.as_str());
                    }
                }
                Later::Repair(who, other) => {
                    self.sim.repair(name(who).as_str(), other.as_str());
                }
                Later::Release(who, other) => {
                    self.sim.release(name(who).as_str(), other.as_str());
                }
            }
        }
    }

    /// Everything is well from now on.
    fn repair(&mut self) {
        self.note(|| "from now on all is well".to_owned());
        self.perform(Duration::MAX);
    }

    // ------------------------------------------------------------ who is there

    fn add_coordinator(&mut self) {
        let number = self.coordinators;
        self.coordinators += 1;
        *self.address.lock().expect("nobody panics with it") = coordinator(number);
        let (place, seen) = (self.place.clone(), Arc::clone(&self.seen));
        self.sim.host(coordinator(number), move || {
            let (place, seen) = (place.clone(), Arc::clone(&seen));
            async move { coordinate(number, place, seen).await }
        });
    }

    fn add_agent(&mut self, number: usize) {
        let stop = Arc::new(Mutex::new(None));
        self.stops.push(Arc::clone(&stop));
        let own = self.plan.agents[number].clone();
        let run = own.only.map(|run| RunName {
            project: String::new(),
            run: self.plan.plays[run].run.clone(),
            wait: own.wait,
        });
        let config = AgentConfig {
            name: agent(number),
            slots: own.slots,
            labels: own.labels,
            run,
            drain: Duration::from_secs(4),
            cache: self.place.join("cache"),
            guard: PathBuf::new(),
        };
        let machine = Arc::new(Machine {
            name: agent(number),
            floor: Arc::clone(&self.floor),
        });
        let (seen, address) = (Arc::clone(&self.seen), Arc::clone(&self.address));
        self.sim.host(agent(number), move || {
            let (config, stop, seen) = (config.clone(), Arc::clone(&stop), Arc::clone(&seen));
            let (machine, address) = (Arc::clone(&machine), Arc::clone(&address));
            async move {
                tokio::time::sleep(own.comes).await;
                let (sender, stopped) = watch::channel(false);
                *stop.lock().expect("nobody panics with it") = Some(sender);
                let agent = Agent::new(config)?.on(machine);
                let find = move || address.lock().expect("nobody panics with it").clone();
                let telling = Arc::clone(&seen);
                let stood = stand(
                    agent,
                    || net::connect(find.clone()),
                    stopped,
                    PATIENCE,
                    |news| match news {
                        News::Welcomed { name, .. } => {
                            say(&telling, || format!("{name} is welcome"));
                            let at = turmoil::sim_elapsed().unwrap_or_default();
                            let mut seen = telling.lock().expect("nobody panics with it");
                            seen.welcomed.push((number, at));
                        }
                        News::Alone { why, busy } => {
                            say(&telling, || {
                                format!("agent{number} is alone, busy {busy}: {why:?}")
                            });
                        }
                    },
                )
                .await;
                let end = match stood {
                    Ok(left) => AgentEnd::Left(left),
                    Err(Alone::Ended(error))
                        if !matches!(error, evenkeel_agent::AgentError::Cut { .. }) =>
                    {
                        AgentEnd::Refused(error.to_string())
                    }
                    Err(why) => AgentEnd::GaveUp(format!("{why:?}")),
                };
                say(&seen, || format!("agent{number} ends: {end:?}"));
                let at = turmoil::sim_elapsed().unwrap_or_default();
                let mut seen = seen.lock().expect("nobody panics with it");
                seen.left.push((number, at, end));
                Ok(())
            }
        });
    }

    fn remote(address: &Arc<Mutex<String>>) -> Remote {
        let address = Arc::clone(address);
        let find = move || address.lock().expect("nobody panics with it").clone();
        Remote::new(net::connect_lazily(find), PATIENCE)
    }

    fn add_client(&mut self, number: usize) {
        let play = self.plan.plays[number].clone();
        let comes = self.plan.submitted[number];
        let (seen, address) = (Arc::clone(&self.seen), Arc::clone(&self.address));
        self.sim.host(client(number), move || {
            let (play, seen) = (play.clone(), Arc::clone(&seen));
            let remote = World::remote(&address);
            async move {
                tokio::time::sleep(comes).await;
                let followed = follow(number, &play, &remote, &seen).await;
                if let Err(error) = followed {
                    say(&seen, || format!("client{number} fails: {error}"));
                    let mut seen = seen.lock().expect("nobody panics with it");
                    seen.failed.push(format!("client{number}: {error}"));
                }
                Ok(())
            }
        });
    }

    fn add_twin(&mut self, comes: Duration) {
        let (seen, address) = (Arc::clone(&self.seen), Arc::clone(&self.address));
        self.sim.host("twin", move || {
            let (seen, address) = (Arc::clone(&seen), Arc::clone(&address));
            async move {
                tokio::time::sleep(comes).await;
                let find = move || address.lock().expect("nobody panics with it").clone();
                if let Err(error) = twin::come_twice(find, &seen).await {
                    say(&seen, || format!("twin: {error}"));
                }
                Ok(())
            }
        });
    }

    fn cancel(&mut self, number: usize) {
        let name = format!(
            "canceller{}",
            self.seen.lock().expect("nobody panics with it").trace.len()
        );
        let run = self.plan.plays[number].run.clone();
        let (seen, address) = (Arc::clone(&self.seen), Arc::clone(&self.address));
        self.sim.host(name, move || {
            let (run, seen) = (run.clone(), Arc::clone(&seen));
            let remote = World::remote(&address);
            async move {
                let request = v1::StopRequest {
                    run,
                    reason: "cancelled".into(),
                    grace_us: 500_000,
                    project: String::new(),
                };
                seen.lock()
                    .expect("nobody panics with it")
                    .cancelled
                    .push(number);
                let asked = remote.ask(|mut client| {
                    let request = request.clone();
                    async move { client.stop(request).await }
                });
                let done = asked.await;
                say(&seen, || format!("cancelled {number}: {}", done.is_ok()));
                Ok(())
            }
        });
    }
}

fn name(who: Who) -> String {
    match who {
        Who::Agent(number) => agent(number),
        Who::Client(number) => client(number),
    }
}

/// As `evenkeel coordinator` does.
async fn coordinate(
    number: usize,
    place: PathBuf,
    seen: Shared,
) -> Result<(), Box<dyn std::error::Error>> {
    let address = StoreAddress::Sqlite(place.join("evenkeel.db"));
    let served = Store::serve_from(&address, &place, &coordinator(number)).await;
    let store = served.expect("the store is there");
    say(&seen, || {
        format!("coordinator{number} serves, epoch {}", store.epoch())
    });
    let coordinator = match Coordinator::start(store, Settings::default()).await {
        Ok(coordinator) => coordinator,
        // Another one has been quicker.
        Err(error) => {
            say(&seen, || {
                format!("coordinator{number} does not start: {error}")
            });
            return Ok(());
        }
    };
    let incoming = net::listen().await?;
    let ended = tokio::select! {
        biased;
        error = coordinator.superseded() => error.to_string(),
        served = coordinator.router().serve_with_incoming(incoming) => format!("{served:?}"),
    };
    say(&seen, || format!("coordinator{number} ends: {ended}"));
    Ok(())
}

/// As `evenkeel run --coordinator` does, and again where it was killed.
async fn follow(
    number: usize,
    play: &Play,
    remote: &Remote,
    seen: &Shared,
) -> Result<(), AskError> {
    let request = v1::SubmitRequest {
        run: play.run.clone(),
        suites: play.suites(),
        seed: 1,
        priority: play.priority,
        labels: play.labels.iter().cloned().collect(),
        ..v1::SubmitRequest::default()
    };
    let submitted = remote
        .ask(|mut client| {
            let request = request.clone();
            async move { client.submit(request).await }
        })
        .await;
    match submitted {
        Ok(submitted) => say(seen, || {
            format!("{} is submitted, attached {}", play.run, submitted.attached)
        }),
        // It was submitted before, and has ended meanwhile.
        Err(AskError::Refused(status)) if status.code() == Code::AlreadyExists => {
            say(seen, || format!("{} is there already", play.run));
        }
        Err(error) => return Err(error),
    }
    let mut following = remote.follow("", &play.run, true);
    let mut rows: Vec<v1::LedgerRow> = Vec::new();
    loop {
        match following.next().await? {
            Seen::Event(Body::Row(row)) => rows.push(row),
            Seen::Event(Body::Ended(ended)) => {
                say(seen, || {
                    format!(
                        "{} has ended: {} {}",
                        play.run, ended.verdict, ended.message
                    )
                });
                let mut seen = seen.lock().expect("nobody panics with it");
                seen.ended.insert(number, ended);
                seen.rows.insert(number, rows);
                return Ok(());
            }
            Seen::Event(_) => {}
            Seen::Cut(status) => say(seen, || {
                format!("client{number} is cut: {}", status.message())
            }),
        }
    }
}
