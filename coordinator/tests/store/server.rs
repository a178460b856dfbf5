//! A PostgreSQL server of the tests' own, reached through a socket in its directory. It ends with whoever started it.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Server {
    directory: PathBuf,
    programs: PathBuf,
    /// What goes before a command, since the server refuses to run as root.
    user: Vec<String>,
    /// Stops the server and removes its directory when its input ends, which is when this process does.
    guardian: Child,
}

/// A directory of which there is no other, with a name short enough for a socket.
pub fn fresh_directory() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("evenkeel-store-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::remove_dir_all(&directory).ok();
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

impl Server {
    pub fn start() -> Server {
        let directory = fresh_directory();
        let mut user = Vec::new();
        // SAFETY: it only asks who runs this.
        if unsafe { libc::geteuid() } == 0 {
            let id = |flag: &str| -> u32 {
                let id = Command::new("id")
                    .args([flag, "postgres"])
                    .output()
                    .unwrap();
                let id = String::from_utf8_lossy(&id.stdout).trim().parse();
                id.expect("a user `postgres`, as its package makes it")
            };
            let (uid, gid) = (id("-u"), id("-g"));
            chown(&directory, Some(uid), Some(gid)).unwrap();
            user = vec![
                "setpriv".to_owned(),
                format!("--reuid={uid}"),
                format!("--regid={gid}"),
                "--clear-groups".to_owned(),
            ];
        }
        let programs = programs();
        let script =
            r#"cat >/dev/null; "$1" -D "$0/data" -m immediate stop >/dev/null 2>&1; rm -rf "$0""#;
        let mut guardian = command(&user, Path::new("sh"), &directory);
        guardian
            .args(["-c", script])
            .arg(&directory)
            .arg(programs.join("pg_ctl"));
        let guardian = guardian.stdin(Stdio::piped()).spawn().unwrap();
        let server = Server {
            directory,
            programs,
            user,
            guardian,
        };
        let words = [
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ];
        server.run("initdb", &[&["-D", "data"], &words[..]].concat());
        server.begin();
        server
    }

    /// Starts the server where it was stopped.
    pub fn begin(&self) {
        let place = self.directory.to_string_lossy();
        let options =
            format!("-k {place} -c listen_addresses= -c fsync=off -c max_connections=200");
        self.run(
            "pg_ctl",
            &["-D", "data", "-l", "log", "-w", "-o", &options, "start"],
        );
    }

    /// Stops it as a crash does.
    pub fn crash(&self) {
        self.run("pg_ctl", &["-D", "data", "-m", "immediate", "-w", "stop"]);
    }

    /// The socket's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn url(&self, database: &str) -> String {
        url(&self.directory, database)
    }

    fn run(&self, program: &str, words: &[&str]) {
        let mut command = command(&self.user, &self.programs.join(program), &self.directory);
        let status = command.args(words).stdin(Stdio::null()).status().unwrap();
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        assert!(status.success(), "{program}: {log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        self.guardian.wait().ok();
    }
}

pub fn url(socket: &Path, database: &str) -> String {
    format!(
        "postgres://postgres@localhost/{database}?host={}",
        socket.display()
    )
}

fn command(user: &[String], program: &Path, directory: &Path) -> Command {
    let mut command = match user.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Where PostgreSQL's programs are: in Debian's place, else where the search path has them.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut places: Vec<_> = versions
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    places.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let has = |place: &&PathBuf| {
        ["initdb", "pg_ctl"]
            .iter()
            .all(|name| place.join(name).exists())
    };
    let found = places.iter().find(has);
    found
        .expect("PostgreSQL; on Debian: apt-get install postgresql")
        .clone()
}
