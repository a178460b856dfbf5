//! How a process ended, what it was doing then, and what follows for its slot.

use super::live::{Live, Wire};
use super::{Item, Slot};
use evenkeel_proto::v1;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use v1::fact::Body;
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

impl Slot {
    /// The process is gone: take in what it still said, then say how it ended.
    pub(super) async fn exited(&mut self, status: io::Result<ExitStatus>) {
        const REST: Duration = Duration::from_millis(500);
        let until = tokio::time::Instant::now() + REST;
        // A process that ended before the agent got to its connection may still have said something.
        if let Some(live) = &mut self.live
            && let Wire::Connecting(receiver) = &mut live.wire
            && let Ok(Ok(connected)) = receiver.try_recv()
        {
            live.wire = Wire::Open(connected);
        }
        while let Some(live) = &mut self.live {
            let Wire::Open(connected) = &mut live.wire else {
                break;
            };
            let read =
                tokio::time::timeout_at(until, connected.reader.read_buf(&mut live.buffer)).await;
            match read {
                Ok(Ok(count)) if count > 0 => self.events(),
                _ => break,
            }
        }
        let Some(mut live) = self.live.take() else {
            return;
        };
        let summary = live.ending(status);
        let farewell = live.farewell();
        let was_ready = live.hello || live.refused.is_some();
        if let Some(refused) = live.refused.clone()
            && summary.cause != Cause::Finished
        {
            self.fact(Body::ProcessRefused(refused), true);
        }
        let (stdout, stderr) = live.process.tails().await;
        let tail = if stderr.trim().is_empty() {
            stdout
        } else {
            stderr
        };
        let tail = tail.trim_end().to_owned();
        if summary.cause == Cause::Finished {
            self.process_ended(
                Cause::Finished,
                summary.code,
                None,
                String::new(),
                summary.explanation,
                farewell,
            );
            // A planned end: what is queued behind it stands, and goes to a fresh process.
            if matches!(self.queue.front(), Some(Item::Recycle | Item::Conclude)) {
                self.queue.pop_front();
            }
            if self.concluded {
                self.owes_concluded = true;
            } else if !self.closing || self.queue.iter().any(|item| matches!(item, Item::Lease(_)))
            {
                self.start();
            }
            return;
        }
        self.queue.clear();
        if !was_ready
            && summary.cause == Cause::Exited
            && let Some(mut refused) = self.framework().explain_exit(summary.code, &tail)
        {
            refused.kind = self.kind;
            self.fact(Body::ProcessRefused(refused), true);
        }
        self.process_ended(
            summary.cause,
            summary.code,
            summary.in_flight,
            tail,
            summary.explanation,
            farewell,
        );
        self.owes_concluded |= self.concluded;
    }

    pub(super) fn process_ended(
        &mut self,
        cause: Cause,
        code: i32,
        in_flight: Option<v1::InFlight>,
        stderr_tail: String,
        explanation: String,
        farewell: Option<v1::Farewell>,
    ) {
        let ended = v1::ProcessEnded {
            kind: self.kind,
            incarnation: self.incarnation,
            cause: cause as i32,
            code,
            in_flight,
            stderr_tail,
            explanation,
            farewell,
        };
        self.incarnation += 1;
        self.ends += u32::from(cause != Cause::Finished);
        self.fact(Body::ProcessEnded(ended), true);
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
