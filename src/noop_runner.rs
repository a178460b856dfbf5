//! The runner that does nothing: it speaks the public protocol, runs cases that sleep for a set time or not at all, and
//! serves benchmarks and simulations. It shares no code with the agent, so that it is a client of the protocol like any
//! other.

use crate::cli::NoopRunnerArgs;
use serde_json::Value;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub fn main(args: &NoopRunnerArgs) -> ExitCode {
    let Some(socket) = std::env::var_os("EVENKEEL_SOCKET") else {
        say!("error: EVENKEEL_SOCKET is not set; this runner is started by an agent:");
        say!("hint: evenkeel run --runner protocol -- evenkeel noop-runner --units 10");
        return ExitCode::from(2);
    };
    let stream = match UnixStream::connect(&socket) {
        Ok(stream) => stream,
        Err(error) => {
            say!(
                "error: cannot connect to {}: {error}",
                socket.to_string_lossy()
            );
            return ExitCode::from(3);
        }
    };
    match serve(args, &stream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("error: {error}");
            ExitCode::from(3)
        }
    }
}

type Failed = Box<dyn std::error::Error>;

struct Runner<'a> {
    args: &'a NoopRunnerArgs,
    stream: &'a UnixStream,
    started: Instant,
    out: String,
    /// Operations that were read but not carried out yet.
    pending: std::collections::VecDeque<Value>,
    incoming: Vec<u8>,
}

fn serve(args: &NoopRunnerArgs, stream: &UnixStream) -> Result<(), Failed> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut runner = Runner {
        args,
        stream,
        started: Instant::now(),
        out: String::new(),
        pending: std::collections::VecDeque::new(),
        incoming: Vec::new(),
    };
    writeln!(
        runner.out,
        r#"{{"event":"hello","protocol":1,"runner":"noop","framework":"noop","language":"","pid":{},"at":{},"can":["list","revoke"],"notes":[],"run_wide":{{}}}}"#,
        std::process::id(),
        runner.at()
    )?;
    runner.flush()?;
    loop {
        let op = match runner.pending.pop_front() {
            Some(op) => op,
            None => {
                runner.flush()?;
                // What take_arrived left behind is the beginning of this line.
                let mut line = std::mem::take(&mut runner.incoming);
                if reader.read_until(b'\n', &mut line)? == 0 {
                    return Ok(());
                }
                serde_json::from_slice(&line)?
            }
        };
        match op["op"].as_str() {
            Some("list") => runner.list()?,
            Some("run") => {
                // Whatever has arrived meanwhile may be a revoke of this very lease.
                runner.take_arrived(&mut reader)?;
                runner.lease(&op, &mut reader)?;
            }
            Some("revoke") => runner.revoke_queued(&op)?,
            Some("idle") => {}
            Some("stop") => {
                if runner.pending.iter().any(|op| op["op"] == "run") {
                    runner.pending.push_back(op);
                    continue;
                }
                writeln!(runner.out, r#"{{"event":"bye"}}"#)?;
                return runner.flush();
            }
            other => return Err(format!("unknown operation {other:?}").into()),
        }
    }
}

impl Runner<'_> {
    fn at(&self) -> u128 {
        self.started.elapsed().as_micros()
    }

    fn flush(&mut self) -> Result<(), Failed> {
        let mut stream = self.stream;
        stream.write_all(self.out.as_bytes())?;
        self.out.clear();
        Ok(())
    }

    fn list(&mut self) -> Result<(), Failed> {
        self.out.push_str(r#"{"event":"listed","units":["#);
        for unit in 0..self.args.units {
            let comma = if unit == 0 { "" } else { "," };
            write!(self.out, r#"{comma}{{"unit":"unit-{unit}"}}"#)?;
        }
        self.out.push_str("],\"more\":false}\n");
        self.flush()
    }

    /// Moves operations that have arrived to the queue, without waiting for any.
    fn take_arrived(&mut self, reader: &mut BufReader<UnixStream>) -> Result<(), Failed> {
        self.stream.set_nonblocking(true)?;
        let result = loop {
            // A line that has arrived in part stays in `incoming` until the rest comes.
            match reader.read_until(b'\n', &mut self.incoming) {
                Ok(0) => break Ok(()),
                Ok(_) => {
                    if self.incoming.ends_with(b"\n") {
                        if self.incoming.len() > 1 {
                            self.pending
                                .push_back(serde_json::from_slice(&self.incoming)?);
                        }
                        self.incoming.clear();
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        self.stream.set_nonblocking(false)?;
        result
    }

    fn revoke_queued(&mut self, op: &Value) -> Result<(), Failed> {
        let lease = op["lease"].as_u64().ok_or("a revoke without a lease")?;
        let queued = self
            .pending
            .iter()
            .position(|op| op["op"] == "run" && op["lease"] == lease);
        let all = match queued {
            Some(queued) if op["from"] == 0 => {
                self.pending.remove(queued);
                true
            }
            _ => false,
        };
        writeln!(
            self.out,
            r#"{{"event":"returned","lease":{lease},"cases":[],"all":{all}}}"#
        )?;
        self.flush()
    }

    fn lease(&mut self, op: &Value, reader: &mut BufReader<UnixStream>) -> Result<(), Failed> {
        let lease = op["lease"].as_u64().ok_or("a lease without a number")?;
        let unit = op["unit"].as_str().ok_or("a lease without a unit")?;
        // A queued revoke of this lease, before it begins.
        let revoked = |op: &Value| op["op"] == "revoke" && op["lease"] == lease;
        if let Some(at) = self
            .pending
            .iter()
            .position(|op| revoked(op) && op["from"] == 0)
        {
            self.pending.remove(at);
            writeln!(
                self.out,
                r#"{{"event":"returned","lease":{lease},"cases":[],"all":true}}"#
            )?;
            return self.flush();
        }
        let named = |key: &str| -> HashSet<&str> {
            op[key]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|case| case["id"].as_str())
                .collect()
        };
        let (only, skip) = (named("only"), named("skip"));
        let listed = unit
            .strip_prefix("unit-")
            .and_then(|number| number.parse().ok())
            .is_some_and(|number: u32| number < self.args.units);
        let ids: Vec<(u32, String)> = if listed {
            (0..self.args.cases)
                .map(|case| (case, format!("{unit}::case-{case}")))
                .filter(|(_, id)| {
                    (only.is_empty() || only.contains(id.as_str())) && !skip.contains(id.as_str())
                })
                .collect()
        } else {
            // A unit that cannot be loaded is one case that is an error.
            vec![(0, unit.to_owned())]
        };
        writeln!(
            self.out,
            r#"{{"event":"begin","lease":{lease},"at":{}}}"#,
            self.at()
        )?;
        write!(self.out, r#"{{"event":"declare","lease":{lease},"cases":["#)?;
        for (index, (_, id)) in ids.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(self.out, r#"{comma}"{id}""#)?;
        }
        self.out.push_str("],\"more\":false");
        if listed && ids.len() < only.len() {
            self.name_instead(unit)?;
        }
        self.out.push_str("}\n");

        let sleep = Duration::from_micros(self.args.sleep_us);
        let mut end = ids.len();
        let mut index = 0;
        while index < end {
            let at = self.at();
            writeln!(
                self.out,
                r#"{{"event":"start","lease":{lease},"case":{index},"at":{at}}}"#
            )?;
            // A start is on the socket before the case runs.
            self.flush()?;
            if !sleep.is_zero() {
                std::thread::sleep(sleep);
            }
            let fails =
                self.args.fail_every > 0 && (ids[index].0 + 1).is_multiple_of(self.args.fail_every);
            let outcome = match (listed, fails) {
                (false, _) => "error",
                (true, true) => "failed",
                (true, false) => "passed",
            };
            let now = self.at();
            let duration = now - at;
            writeln!(
                self.out,
                r#"{{"event":"end","lease":{lease},"case":{index},"at":{now},"outcome":"{outcome}","duration_us":{duration}}}"#
            )?;
            index += 1;
            if !sleep.is_zero() {
                self.take_arrived(reader)?;
                end = self.revoke_running(lease, index, end)?;
            }
        }
        writeln!(
            self.out,
            r#"{{"event":"close","lease":{lease},"at":{},"setup_us":0}}"#,
            self.at()
        )?;
        Ok(())
    }

    /// Where cases were asked for that a unit does not have: those that it has.
    fn name_instead(&mut self, unit: &str) -> Result<(), Failed> {
        self.out.push_str(r#","instead":["#);
        for case in 0..self.args.cases.min(1000) {
            let comma = if case == 0 { "" } else { "," };
            write!(self.out, r#"{comma}{{"id":"{unit}::case-{case}","n":0}}"#)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// Gives back what was revoked of the lease that runs; the new end of its cases is returned.
    fn revoke_running(&mut self, lease: u64, next: usize, end: usize) -> Result<usize, Failed> {
        let revoked = |op: &Value| op["op"] == "revoke" && op["lease"] == lease;
        let Some(at) = self.pending.iter().position(revoked) else {
            return Ok(end);
        };
        let op = self.pending.remove(at).unwrap_or_default();
        let from = usize::try_from(op["from"].as_u64().unwrap_or(0))?.clamp(next, end);
        let cases: Vec<usize> = (from..end).collect();
        writeln!(
            self.out,
            r#"{{"event":"returned","lease":{lease},"cases":{},"all":false}}"#,
            serde_json::to_string(&cases)?
        )?;
        self.flush()?;
        Ok(from)
    }
}
