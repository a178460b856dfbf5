//! How a process ended, and what it was doing then.

use super::live::Live;
use evenkeel_proto::v1;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use v1::process_ended::Cause;

/// How a process ended.
pub(super) struct Ending {
    pub cause: Cause,
    pub code: i32,
    pub in_flight: Option<v1::InFlight>,
    pub explanation: String,
}

impl Live {
    /// How it ended, and what it was doing.
    pub(super) fn ending(&self, status: io::Result<ExitStatus>) -> Ending {
        let in_flight = self.in_flight();
        let (code, signal) = match &status {
            Ok(status) => (status.code(), status.signal()),
            Err(_) => (None, None),
        };
        let doing = match &in_flight {
            Some(flight) if flight.running => " while this test ran",
            Some(flight) if !flight.settled => " while it loaded its unit",
            Some(_) => " between two tests",
            None if !self.hello => " before it was ready",
            None => "",
        };
        let (cause, code, explanation) = match (&self.killed, signal, code) {
            (Some(killed), ..) => (
                killed.cause,
                code.unwrap_or_default(),
                killed.explanation.clone(),
            ),
            (None, None, Some(code)) if self.bye && self.stopping && self.leases.is_empty() => (
                Cause::Finished,
                code,
                format!("finished with status {code}"),
            ),
            (None, Some(signal), _) => (
                Cause::Signaled,
                signal,
                format!("its process was killed by {}{doing}", signal_name(signal)),
            ),
            (None, None, Some(crate::guard::CANNOT_START)) if !self.hello => (
                Cause::Exited,
                -1,
                "the command cannot be started".to_owned(),
            ),
            (None, None, code) => {
                let code = code.unwrap_or(-1);
                (
                    Cause::Exited,
                    code,
                    format!("its process exited with status {code}{doing}"),
                )
            }
        };
        Ending {
            cause,
            code,
            in_flight,
            explanation,
        }
    }

    /// Whether a case runs, rather than a unit being loaded.
    pub(super) fn runs_a_case(&self) -> bool {
        self.running.is_some()
    }

    fn in_flight(&self) -> Option<v1::InFlight> {
        let held = &self.leases.front()?.0;
        held.begun_at?;
        Some(v1::InFlight {
            lease: held.lease,
            generation: held.generation,
            running: self.running.is_some(),
            case: self.running.as_ref().map_or(0, |running| running.case),
            started_at_us: self
                .running
                .as_ref()
                .map_or(0, |running| running.started_at),
            ordinal: self.running.as_ref().map_or(0, |running| running.ordinal),
            settled: held.declared,
        })
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        libc::SIGHUP => "SIGHUP",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}
