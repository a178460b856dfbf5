//! Lines for standard error that nobody waits for: of a process that serves, whatever becomes of who reads them.
//!
//! A disk that is full takes no line, and a pipe that nobody reads takes none either and says nothing. So a thread writes; who has a line
//! leaves it in a bounded queue, and a line that finds no room, or that cannot be written, is counted and gone.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// So many lines may wait.
const QUEUE: usize = 8192;

enum Word {
    Line(Vec<u8>),
    /// Is answered when all before it is written.
    Mark(SyncSender<()>),
}

static QUEUED: OnceLock<SyncSender<Word>> = OnceLock::new();
/// Lines that were not written since it was last said how many.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Leaves a line to be written.
pub fn leave(line: impl Into<Vec<u8>>) {
    let mut line = line.into();
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    if queue().try_send(Word::Line(line)).is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until what was left so far is written, and not for longer than this.
pub fn flush(within: Duration) {
    let Some(queue) = QUEUED.get() else { return };
    let (written, all) = sync_channel(1);
    if queue.try_send(Word::Mark(written)).is_ok() {
        // Who does not take the lines has had the time.
        all.recv_timeout(within).ok();
    }
}

fn queue() -> &'static SyncSender<Word> {
    QUEUED.get_or_init(|| {
        let (queue, words) = sync_channel(QUEUE);
        let writes = std::thread::Builder::new().name("lines".to_owned());
        let started = writes.spawn(move || write(&words, &mut io::stderr()));
        // Without the thread every line finds the queue closed, and is counted.
        drop(started);
        queue
    })
}

fn write(words: &Receiver<Word>, out: &mut impl Write) {
    // Of the last line a part may be there.
    let mut torn = false;
    for word in words {
        let line = match word {
            Word::Line(line) => line,
            Word::Mark(written) => {
                written.try_send(()).ok();
                continue;
            }
        };
        let whole = match torn {
            true => out.write_all(b"\n").and_then(|()| out.write_all(&line)),
            false => out.write_all(&line),
        };
        torn = whole.is_err();
        if torn {
            LOST.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // It takes its place behind what waits, in the log's own form.
            tracing::warn!(lines = lost, "lines of this log could not be written");
        }
    }
}

/// A log's way here: a line for each event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        leave(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full for a while, and takes a part of the first line.
    struct Disk {
        full: u32,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.full > 0 {
                self.full -= 1;
                if self.full % 2 == 1 {
                    self.written.extend(&bytes[..1]);
                    return Ok(1);
                }
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_run_into_the_next() {
        let (queue, words) = sync_channel(4);
        for line in ["first\n", "second\n"] {
            queue.send(Word::Line(line.into())).unwrap();
        }
        drop(queue);
        let mut disk = Disk {
            full: 2,
            written: Vec::new(),
        };
        write(&words, &mut disk);
        assert_eq!(disk.written, b"f\nsecond\n");
    }

    #[test]
    fn who_has_a_line_does_not_wait_for_room() {
        let (queue, words) = sync_channel(1);
        queue.send(Word::Line(b"one\n".to_vec())).unwrap();
        assert!(queue.try_send(Word::Line(b"two\n".to_vec())).is_err());
        drop(words);
    }
}
