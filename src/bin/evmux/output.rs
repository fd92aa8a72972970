//! stdout of the commands that print what they are told: byte for byte, at once, and each failure
//! noticed.
//!
//! A reader that is gone, as `head` is after ten lines, has read enough: that is an end, and no
//! failure. A full disk is one.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use crate::failure::Failure;

pub(crate) struct Output(File);

impl Output {
    /// Its descriptor is duplicated and written to directly: the standard library's own handle
    /// holds bytes back until a line ends.
    pub(crate) fn new() -> Result<Self, Failure> {
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(stdout) => Ok(Self(stdout.into())),
            Err(why) => Err(cannot_write(why)),
        }
    }

    /// Writes all of `bytes`, or breaks off, since nobody reads any more.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<ControlFlow<()>, Failure> {
        match self.write_all(bytes) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(why) => Err(cannot_write(why)),
        }
    }

    /// The same, with a line feed behind them.
    pub(crate) fn write_line(&mut self, bytes: &[u8]) -> Result<ControlFlow<()>, Failure> {
        self.write(&[bytes, b"\n"].concat())
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                // Someone who shares the terminal or pipe made it non-blocking. There is nothing
                // else to do meanwhile.
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }
}

pub(crate) fn cannot_write(why: io::Error) -> Failure {
    Failure::new("cannot write to stdout", why)
}
