//! Plugins that keep a database for each slot, against a real PostgreSQL.

use crate::support::{Suite, holds, kill};
use crate::trial::{Seen, Trial, trial};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server of its own, reached through a socket in its directory, which ends with the test.
struct Postgres {
    suite: Suite,
    programs: PathBuf,
    server: Child,
}

impl Postgres {
    fn start() -> Postgres {
        let suite = Suite::new();
        let directory = suite.root.join("postgres");
        fs::create_dir(&directory).unwrap();
        // The server refuses to run as root.
        let user = || -> Option<(u32, u32)> {
            let word = |flag| {
                let id = Command::new("id")
                    .args([flag, "postgres"])
                    .output()
                    .unwrap();
                String::from_utf8_lossy(&id.stdout).trim().parse().ok()
            };
            Some((word("-u")?, word("-g")?))
        };
        // SAFETY: it only asks who runs this.
        let root = unsafe { libc::geteuid() } == 0;
        let mut drop = vec!["setpriv".to_owned(), "--pdeathsig=QUIT".to_owned()];
        if root {
            let (uid, gid) = user().expect("a user `postgres`, as its package makes it");
            chown(&directory, Some(uid), Some(gid)).unwrap();
            drop.extend([
                format!("--reuid={uid}"),
                format!("--regid={gid}"),
                "--clear-groups".to_owned(),
            ]);
        }
        let programs = programs();
        let start = |program: &str, words: &[&str]| {
            let mut command = suite.command(&drop[0]);
            command
                .args(&drop[1..])
                .arg(programs.join(program))
                .args(words);
            command
                .current_dir(&directory)
                .stdout(Stdio::null())
                .stderr(fs::File::create(suite.root.join(format!("{program}.log"))).unwrap());
            command
        };
        let words = [
            "-D",
            "data",
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ];
        let status = start("initdb", &words).status().unwrap();
        assert!(status.success(), "initdb: {}", suite.read("initdb.log"));
        let place = directory.to_string_lossy();
        let words = [
            "-D",
            "data",
            "-k",
            &place,
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ];
        let server = start("postgres", &words).spawn().unwrap();
        let postgres = Postgres {
            suite,
            programs,
            server,
        };
        let ready = || {
            let mut ask = Command::new(postgres.programs.join("pg_isready"));
            let asked = ask.arg("--quiet").env("PGHOST", postgres.host()).status();
            asked.is_ok_and(|status| status.success())
        };
        assert!(
            holds(Duration::from_secs(60), ready),
            "{}",
            postgres.suite.read("postgres.log")
        );
        postgres
    }

    fn host(&self) -> String {
        self.suite
            .root
            .join("postgres")
            .to_string_lossy()
            .into_owned()
    }

    /// What a statement yields in a database.
    fn ask(&self, database: &str, statement: &str) -> BTreeSet<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args([
            "--no-psqlrc",
            "-U",
            "postgres",
            "-d",
            database,
            "-Atc",
            statement,
        ]);
        let said = psql.env("PGHOST", self.host()).output().unwrap();
        assert!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
        String::from_utf8_lossy(&said.stdout)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The databases that somebody made.
    fn databases(&self) -> BTreeSet<String> {
        self.ask("postgres", "select datname from pg_database where datname not in ('postgres', 'template0', 'template1')")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        kill(self.server.id() as i32, libc::SIGQUIT);
        self.server.wait().ok();
    }
}

/// Where PostgreSQL's programs are: in Debian's place, else where the search path has them.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut places: Vec<_> = versions
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    places.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let has = |place: &&PathBuf| {
        ["initdb", "pg_isready"]
            .iter()
            .all(|name| place.join(name).exists())
    };
    let found = places.iter().find(has);
    found
        .expect("PostgreSQL; on Debian: apt-get install postgresql")
        .clone()
}

fn words(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// The databases of each process of a run of the Django suite, as it left them.
fn used(seen: &Seen) -> Vec<(String, String)> {
    let files = seen.files().into_iter();
    files
        .filter_map(|(path, text)| Some((path.strip_prefix("seen/")?.to_owned(), text)))
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn each_slot_has_databases_of_its_own() {
    let server = Postgres::start();
    let django = trial("django", &["django"]).variable("PGHOST", &server.host());

    let [plain, one, two] = django.alike();
    let alone = pairs(&[("alone", "test_shop test_store")]);
    assert_eq!(used(&plain), alone);
    assert_eq!(used(&one), alone);
    let each = pairs(&[
        ("gw0", "test_shop_gw0 test_store_gw0"),
        ("gw1", "test_shop_gw1 test_store_gw1"),
    ]);
    assert_eq!(used(&two), each);
    assert_eq!(server.databases(), words(&[]), "all were removed");

    reuse(&server, &django.with(&["--reuse-db", "-k", "rolled_back"]));
    fresh(&server);
}

/// `--reuse-db` keeps the databases and takes them again; `--create-db` makes them anew.
fn reuse(server: &Postgres, django: &Trial) {
    let kept = words(&[
        "test_shop_gw0",
        "test_shop_gw1",
        "test_store_gw0",
        "test_store_gw1",
    ]);
    let first = django.slots(2);
    assert_eq!(server.databases(), kept);
    for database in &kept {
        server.ask(database, "create table left_by_the_first_run ()");
    }
    let marked = || {
        let tables = "select tablename from pg_tables where schemaname = 'public' and tablename like 'left%'";
        kept.iter()
            .filter(|database| !server.ask(database, tables).is_empty())
            .count()
    };
    let second = django.slots(2);
    second.equals(&first, "a second run");
    assert_eq!(marked(), 4);
    let third = django.with(&["--create-db"]).slots(2);
    third.equals(&first, "anew");
    assert_eq!(server.databases(), kept);
    assert_eq!(marked(), 0);
}

/// pytest-postgresql makes and removes a database for each test, named after the slot.
fn fresh(server: &Postgres) {
    let host = format!("--postgresql-host={}", server.host());
    let trial =
        trial("postgresql", &["pytest_postgresql"]).with(&[&host, "--postgresql-user=postgres"]);
    let [_, one, two] = trial.alike();
    let test = "test_one.py::test_empty_again";
    assert_eq!(one.printed(test), "database tests\n");
    assert!(
        two.printed(test).starts_with("database testsgw"),
        "{}",
        two.printed(test)
    );
}
