//! Lines for stdout and stderr, written by a thread of their own.
//!
//! stderr may be a pipe that nobody empties, a full disk, a terminal that was stopped, or closed: a
//! serving thread that wrote there itself would wait, and serve nobody. So lines are queued, and a
//! thread that has nothing else to do writes them:
//!
//! ```text
//!   serving threads ── push ──▶ waiting (at most LIMIT bytes) ── writer thread ──▶ stderr
//!                        └──▶ no room: dropped, and counted    └─ "3 lines were dropped"
//! ```
//!
//! What was dropped is said at its place among the lines, as soon as something can be written
//! again. A line is queued whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The sending end of the queue; clones send to the same thread.
#[derive(Clone)]
pub(crate) struct LineQueue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something is waiting, or was dropped.
    more: Condvar,
    /// Everything was written.
    empty: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines; at most `LIMIT` bytes.
    waiting: Vec<u8>,
    /// Lines that found no room behind those in `waiting`.
    dropped: u64,
    /// The writer has taken lines and is not done with them.
    writing: bool,
}

/// Room for some thousand lines: a burst at a mass disconnect fits, and a server whose log nobody
/// reads holds no more than this twice.
const LIMIT: usize = 512 * 1024;

impl LineQueue {
    /// A queue in front of `output`: stdout or stderr.
    ///
    /// Its descriptor is duplicated and written to directly. The standard library's own handle has
    /// a lock, which the writer would hold while it waits.
    pub(crate) fn to(output: impl AsFd, thread: &str) -> io::Result<Self> {
        let output = File::from(output.as_fd().try_clone_to_owned()?);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            more: Condvar::new(),
            empty: Condvar::new(),
        });
        let queue = Self(Arc::clone(&shared));
        thread::Builder::new().name(thread.into()).spawn(move || shared.write_to(output))?;
        Ok(queue)
    }

    /// Queues `line`, which ends with a line feed; drops and counts it when there is no room.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.waiting.len() + line.len() <= LIMIT && state.dropped == 0 {
            state.waiting.extend_from_slice(line);
        } else {
            state.dropped += 1;
        }
        self.0.more.notify_one();
    }

    /// Lets the writer finish, if its reader lets it: for what is said last.
    pub(crate) fn settle(&self) {
        self.settle_within(SETTLE);
    }

    fn settle_within(&self, patience: Duration) {
        let state = self.0.lock();
        let busy = |state: &mut State| state.writing || !state.is_empty();
        // The program ends now, whether all was written or not.
        drop(self.0.empty.wait_timeout_while(state, patience, busy));
    }
}

/// At exit the log has 200 ms to come out: half before its last line is queued, which then finds
/// room, and half after.
const SETTLE: Duration = Duration::from_millis(100);

/// A logger writes each of its lines in one call.
impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// The writer's thread, for as long as the program runs.
    fn write_to(&self, mut output: File) {
        let mut lines = Vec::new();
        // Dropped, or lost to a failed write, and not reported yet.
        let mut missing = 0;
        loop {
            let dropped = self.take(&mut lines);
            report(&mut missing, &mut output);
            missing += write_lines(&lines, &mut output);
            missing += dropped;
            report(&mut missing, &mut output);
        }
    }

    /// Waits for lines and takes them all; says how many were dropped behind them.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        lines.clear();
        let mut state = self.lock();
        state.writing = false;
        if state.is_empty() {
            self.empty.notify_all();
        }
        while state.is_empty() {
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        mem::swap(&mut state.waiting, lines);
        mem::take(&mut state.dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while holding it left whole lines.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0
    }
}

/// Says how many lines are missing here, and keeps the number if that cannot be said now.
fn report(missing: &mut u64, output: &mut impl Write) {
    if *missing > 0 {
        let line = format!("evmux: {missing} lines are missing here: they could not be written\n");
        if write_lines(line.as_bytes(), output) == 0 {
            *missing = 0;
        }
    }
}

/// Writes `lines` and says how many of them could not be.
fn write_lines(mut lines: &[u8], output: &mut impl Write) -> u64 {
    while !lines.is_empty() {
        match output.write(lines) {
            Ok(count) if count > 0 => lines = &lines[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Someone who shares the terminal or pipe made it non-blocking. This thread has
            // nothing else to do, so it may as well sleep.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(10));
            }
            Ok(_) | Err(_) => break,
        }
    }
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Runs `test`, and fails when it waits for ever.
    fn in_time(test: impl FnOnce() + Send + 'static) {
        let (sender, receiver) = mpsc::channel();
        let test = thread::spawn(move || {
            test();
            let _ = sender.send(());
        });
        let waited = receiver.recv_timeout(LONG);
        assert!(waited != Err(mpsc::RecvTimeoutError::Timeout), "it waits for ever");
        test.join().unwrap();
    }

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = LineQueue::to(&writer, "test").unwrap();
        for number in 0..1000 {
            queue.push(format!("line {number}\n").as_bytes());
        }
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        for (number, line) in lines.take(1000).enumerate() {
            assert_eq!(line, format!("line {number}"));
        }
        queue.settle_within(LONG);
        assert!(!queue.0.lock().writing);
    }

    #[test]
    fn a_pipe_that_nobody_reads_stops_nobody_and_what_was_dropped_is_said_at_its_place() {
        in_time(|| {
            let (mut reader, writer) = io::pipe().unwrap();
            let queue = LineQueue::to(&writer, "test").unwrap();
            let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
            // Twice the queue and the largest pipe: were this to wait, it would wait for ever.
            let pushed = 2 * (2 * LIMIT + (1 << 20)) / line.len();
            for _ in 0..pushed {
                queue.push(&line);
            }
            let (mut text, mut missing, mut whole) = (Vec::new(), 0, 0);
            while missing + whole < pushed {
                let mut bytes = [0; 65536];
                let count = reader.read(&mut bytes).unwrap();
                text.extend_from_slice(&bytes[..count]);
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    match line.strip_prefix(b"evmux: ") {
                        Some(rest) => {
                            let rest = String::from_utf8(rest.to_vec()).unwrap();
                            let number = rest.split(' ').next().unwrap();
                            missing += number.parse::<usize>().unwrap();
                        }
                        None => whole += 1,
                    }
                }
            }
            assert!(missing > 0);
            queue.push(b"after\n");
            queue.settle_within(LONG);
            drop(writer);
            let mut bytes = [0; 100];
            let count = reader.read(&mut bytes).unwrap();
            assert_eq!(&bytes[..count], b"after\n");
        });
    }

    #[test]
    fn a_closed_pipe_stops_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = LineQueue::to(&writer, "test").unwrap();
        drop(reader);
        for _ in 0..1000 {
            queue.push(b"nobody reads this\n");
        }
        queue.settle_within(LONG);
        assert!(queue.0.lock().is_empty());
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_said_when_there_is_room_again() {
        struct Disk {
            full: bool,
            text: Vec<u8>,
        }
        impl Write for Disk {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.full {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.text.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut disk = Disk { full: true, text: Vec::new() };
        let mut missing = write_lines(b"one\ntwo\n", &mut disk);
        report(&mut missing, &mut disk);
        assert_eq!(missing, 2);
        disk.full = false;
        report(&mut missing, &mut disk);
        assert_eq!(missing, 0);
        assert!(disk.text.starts_with(b"evmux: 2 lines are missing here"));
    }
}
