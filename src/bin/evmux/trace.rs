//! `--trace FILE`: what the server did, as a timeline that Perfetto and Chrome draw.
//!
//! The file is written at exit and at each SIGUSR1, as a temporary one beside it that then takes
//! its name: who reads it sees a whole timeline, the last one or this one. That it can be written
//! is tried before anything is served.

mod encode;
mod names;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use evmux::trace::Recorder;
use log::{error, info};
use signal_hook::consts::SIGUSR1;
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::failure::Failure;

pub(crate) use names::{
    Args, CLOSED, CONNECTIONS, Line, OPEN_CONNECTIONS, THREAD_NAME, WAITING_BYTES,
};

/// How many records are kept. Some ten thousand requests are a timeline that a viewer still loads,
/// and 36 MiB a price that a server can pay.
pub(crate) const RECORDS: usize = 1 << 19;

/// Where the timeline goes. Clones are the same.
#[derive(Clone)]
pub(crate) struct TraceFile(Arc<Shared>);

struct Shared {
    recorder: Recorder,
    path: PathBuf,
    destination: Destination,
    /// What is served, and how.
    what: String,
    /// Two writers would write over each other's temporary file.
    writing: Mutex<()>,
}

enum Destination {
    /// A regular file, replaced as a whole.
    Replaced,
    /// A pipe or a device: there is no name that another file could take.
    Stream(File),
}

impl TraceFile {
    /// A timeline of a server that is called `what`, for `path`.
    pub(crate) fn open(path: &Path, what: String) -> Result<Self, Failure> {
        // A link keeps leading to the file.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let destination = match Destination::of(&path) {
            Ok(destination) => destination,
            Err(why) => return Err(cannot_write(&path, why)),
        };
        let recorder = Recorder::new(RECORDS);
        Ok(Self(Arc::new(Shared { recorder, path, destination, what, writing: Mutex::default() })))
    }

    pub(crate) fn recorder(&self) -> Recorder {
        self.0.recorder.clone()
    }

    /// Writes what was recorded until now.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let Shared { recorder, path, destination, what, writing } = &*self.0;
        // What a writer that panicked has left is written over.
        let _writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
        let recording = recorder.recording();
        let encode_to = |file: &File| -> io::Result<()> {
            let mut buffered = BufWriter::with_capacity(1 << 16, file);
            encode::encode(recording, what, &mut buffered)?;
            buffered.flush()
        };
        let written = match destination {
            Destination::Stream(file) => encode_to(file),
            Destination::Replaced => {
                let (beside, file) = match temporary(path) {
                    Ok(temporary) => temporary,
                    Err(why) => return Err(cannot_write(path, why)),
                };
                encode_to(&file).and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
                    // Half a timeline is of no use to anybody.
                    let _ = fs::remove_file(&beside);
                })
            }
        };
        written.map_err(|why| cannot_write(path, why))
    }
}

impl Destination {
    /// Tries whether `path` can be written, and leaves it as it is.
    fn of(path: &Path) -> io::Result<Self> {
        if path.exists() {
            let file = OpenOptions::new().write(true).open(path)?;
            if !file.metadata()?.is_file() {
                return Ok(Self::Stream(file));
            }
        }
        let (beside, _) = temporary(path)?;
        fs::remove_file(beside)?;
        Ok(Self::Replaced)
    }
}

/// A new file in the directory of `path`.
fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not the name of a file"));
    };
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(beside);
    // A process of the same number may have died of a full disk. Never through a link, which
    // others can leave in a directory like /tmp.
    let _ = fs::remove_file(&beside);
    let file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
    Ok((beside, file))
}

fn cannot_write(path: &Path, why: io::Error) -> Failure {
    Failure::new(format_args!("cannot write the trace to {}", path.display()), why)
}

/// Writes `trace` at each SIGUSR1. Without one the signal, which would end the process, does
/// nothing, and no thread waits for it.
pub(crate) fn write_on_signal(trace: Option<TraceFile>) -> io::Result<()> {
    let Some(trace) = trace else {
        flag::register(SIGUSR1, Arc::default())?;
        return Ok(());
    };
    let mut signals = Signals::new([SIGUSR1])?;
    let write = move || {
        for _ in signals.forever() {
            match trace.write() {
                Ok(()) => info!("SIGUSR1: the trace is in {}", trace.0.path.display()),
                Err(failure) => error!("SIGUSR1: {failure}"),
            }
        }
    };
    thread::Builder::new().name("trace".into()).spawn(write)?;
    Ok(())
}
