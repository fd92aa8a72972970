//! Sends while it receives.
//!
//! Who sends 8 MB before reading deadlocks with a server that answers as it reads: the answers fill
//! the buffers of both kernels, the server waits until they are read and reads no more, and the
//! sender waits for the server. So one poll(2) waits for both directions:
//!
//! ```text
//!   to send ──▶ socket   while it takes something
//!               socket ──▶ received, as it comes
//! ```
//!
//! The end of what is to be sent is our end (the sending half is shut down), and the server answers
//! on. The server's end is the end of the conversation.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::SockRef;

use super::TransferError;
use crate::sys::{self, PollFd};

/// What [`converse`] sends.
#[derive(Debug)]
pub enum ToSend<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// What comes from here, as it comes: a file, a pipe, a terminal. No more is read ahead than
    /// 64 KiB.
    File(&'a File),
    /// The same, but a line only when it is whole, or longer than 64 KiB; the last one may lack its
    /// line feed.
    Lines(&'a File),
}

/// Bytes moved in one call.
const CHUNK: usize = 64 * 1024;

/// Sends `message` and the end, receives the answer to the other side's end, both at a time, and
/// returns the answer: at most `limit` bytes.
///
/// A read timeout of the stream ([`TcpStream::set_read_timeout`](std::net::TcpStream)) is the
/// longest that no byte may move in either direction.
///
/// ```
/// use evmux::client::{connect, exchange};
/// # let server = evmux::Server::builder(|_: &evmux::Peer| evmux::services::Echo)
/// #     .listen("127.0.0.1:0").build()?.start()?;
/// # let address = server.local_addresses()[0].socket_addr().unwrap();
///
/// let message = vec![b'x'; 8 << 20];
/// let answer = exchange(&connect(address)?, &message, 16 << 20)?;
/// assert_eq!(answer, message);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`TransferError::TooLong`] once more than `limit` bytes have come; [`TransferError::Io`].
pub fn exchange<S: AsFd>(
    stream: &S,
    message: &[u8],
    limit: usize,
) -> Result<Vec<u8>, TransferError> {
    let mut answer = Vec::new();
    let mut length = 0;
    let ended = converse(stream, ToSend::Bytes(message), |bytes| {
        length = answer.len() + bytes.len();
        if length > limit {
            return Ok(ControlFlow::Break(()));
        }
        answer.extend_from_slice(bytes);
        Ok(ControlFlow::Continue(()))
    });
    match ended {
        Ok(()) if length > limit => Err(TransferError::too_long(length, limit)),
        Ok(()) => Ok(answer),
        Err(
            ConverseError::Stream(error)
            | ConverseError::ToSend(error)
            | ConverseError::Received(error),
        ) => Err(TransferError::Io(error)),
    }
}

/// Sends `to_send` and the end, and gives what comes back to `receive`, both at a time.
///
/// It ends when `receive` breaks off, or with the other side: at its end a file is not waited for
/// any more, since the answer is whole; what had been taken from it by then, or [`ToSend::Bytes`],
/// is sent as far as the other side still takes it.
///
/// The stream may be TCP or Unix, and is best left blocking. Its read timeout is the longest that
/// nothing may happen: neither a byte in either direction nor one from the file.
///
/// ```no_run
/// use std::fs::File;
/// use std::io::{self, Write};
/// use std::ops::ControlFlow;
/// use std::os::fd::AsFd;
///
/// use evmux::client::{ToSend, connect, converse};
///
/// // Like netcat: from standard input to the server, and back to standard output.
/// let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
/// let mut output = io::stdout();
/// converse(&connect("127.0.0.1:9000")?, ToSend::File(&input), |bytes| {
///     output.write_all(bytes)?;
///     output.flush()?;
///     Ok(ControlFlow::Continue(()))
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What fails first: the stream, the file, or `receive`. A server that takes no more has not
/// failed; what it still says is received.
pub fn converse<S: AsFd>(
    stream: &S,
    to_send: ToSend<'_>,
    mut receive: impl FnMut(&[u8]) -> io::Result<ControlFlow<()>>,
) -> Result<(), ConverseError> {
    let socket = SockRef::from(stream);
    let patience = socket.read_timeout().map_err(ConverseError::Stream)?;
    let mut sending = Sending::new(to_send);
    let mut scratch = vec![0; CHUNK];
    let mut ended = false;
    while !ended || sending.has_bytes() {
        sending.finish_if_done(&socket);
        let ready = wait(&socket, &sending, !ended, patience)?;
        if ready.from_socket && !ended {
            match (&*socket).read(&mut scratch) {
                Ok(0) => {
                    ended = true;
                    sending.take_no_more();
                }
                Ok(count) => {
                    let received = scratch.get(..count).unwrap_or_default();
                    if receive(received).map_err(ConverseError::Received)?.is_break() {
                        return Ok(());
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(ConverseError::Stream(error)),
            }
        }
        if ready.to_socket {
            sending.send(&socket).map_err(ConverseError::Stream)?;
        }
        if ready.from_file {
            sending.read().map_err(ConverseError::ToSend)?;
        }
    }
    Ok(())
}

/// What is on its way to the socket.
struct Sending<'a> {
    source: ToSend<'a>,
    /// Read from a file, and not sent yet.
    ahead: Vec<u8>,
    /// Bytes of `ahead` that are sent.
    sent: usize,
    /// Bytes of `ahead` that may be sent: all, or those of whole lines.
    whole: usize,
    /// The file has nothing more, or is not asked any more.
    exhausted: bool,
    /// Our end is told.
    finished: bool,
}

impl<'a> Sending<'a> {
    fn new(source: ToSend<'a>) -> Self {
        let exhausted = matches!(source, ToSend::Bytes(_));
        Self { source, ahead: Vec::new(), sent: 0, whole: 0, exhausted, finished: false }
    }

    fn waiting(&self) -> &[u8] {
        match self.source {
            ToSend::Bytes(bytes) => bytes,
            ToSend::File(_) | ToSend::Lines(_) => {
                self.ahead.get(self.sent..self.whole).unwrap_or_default()
            }
        }
    }

    fn has_bytes(&self) -> bool {
        !self.waiting().is_empty()
    }

    /// The file to wait for: read from only when all that was read is sent.
    fn file(&self) -> Option<&'a File> {
        match self.source {
            ToSend::File(file) | ToSend::Lines(file) if !self.exhausted && !self.has_bytes() => {
                Some(file)
            }
            _ => None,
        }
    }

    fn finish_if_done(&mut self, socket: &SockRef<'_>) {
        if self.exhausted && !self.finished && !self.has_bytes() {
            // It fails when the connection is gone, and that is for the next read to tell.
            let _ = socket.shutdown(Shutdown::Write);
            self.finished = true;
        }
    }

    fn send(&mut self, socket: &SockRef<'_>) -> io::Result<()> {
        // poll(2) said that something can be taken, not that everything can.
        match socket.send_with_flags(self.waiting(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
            Ok(count) => {
                match &mut self.source {
                    ToSend::Bytes(bytes) => *bytes = bytes.get(count..).unwrap_or_default(),
                    ToSend::File(_) | ToSend::Lines(_) => self.sent += count,
                }
                Ok(())
            }
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) if is_gone(&error) => {
                // The other side takes no more. What it has said before is still to be read.
                self.take_no_more();
                self.drop_waiting();
                self.finished = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let (mut file, by_line) = match self.source {
            ToSend::File(file) => (file, false),
            ToSend::Lines(file) => (file, true),
            ToSend::Bytes(_) => return Ok(()),
        };
        // Only a begun line is left.
        self.ahead.drain(..self.sent);
        self.sent = 0;
        let begun = self.ahead.len();
        self.ahead.resize(begun + CHUNK, 0);
        let read = file.read(self.ahead.get_mut(begun..).unwrap_or_default());
        self.ahead.truncate(begun + read.as_ref().map_or(0, |count| *count));
        match read {
            Ok(count) => self.exhausted = count == 0,
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        let wait_for_more = by_line && !self.exhausted && self.ahead.len() <= CHUNK;
        self.whole = if wait_for_more {
            memchr::memrchr(b'\n', &self.ahead).map_or(0, |last| last + 1)
        } else {
            self.ahead.len()
        };
        Ok(())
    }

    fn take_no_more(&mut self) {
        self.exhausted = true;
    }

    fn drop_waiting(&mut self) {
        match &mut self.source {
            ToSend::Bytes(bytes) => *bytes = &[],
            ToSend::File(_) | ToSend::Lines(_) => self.whole = self.sent,
        }
    }
}

struct Ready {
    from_socket: bool,
    to_socket: bool,
    from_file: bool,
}

fn wait(
    socket: &SockRef<'_>,
    sending: &Sending<'_>,
    receive: bool,
    patience: Option<Duration>,
) -> Result<Ready, ConverseError> {
    let mut events = 0;
    if receive {
        events |= libc::POLLIN;
    }
    if sending.has_bytes() {
        events |= libc::POLLOUT;
    }
    // A negative descriptor is not waited for.
    let file = sending.file().map_or(-1, AsRawFd::as_raw_fd);
    let mut fds = [
        PollFd { fd: socket.as_raw_fd(), events, revents: 0 },
        PollFd { fd: file, events: libc::POLLIN, revents: 0 },
    ];
    match sys::poll(&mut fds, patience) {
        Ok(0) => {
            let silence = "nothing moved within the time limit";
            return Err(ConverseError::Stream(io::Error::new(io::ErrorKind::TimedOut, silence)));
        }
        Ok(_) => {}
        // Then nothing is ready, and it is waited for again.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(ConverseError::Stream(error)),
    }
    let [of_socket, of_file] = fds.map(|fd| fd.revents);
    Ok(Ready {
        // An error or a hang-up is told by the call that meets it.
        from_socket: of_socket & !libc::POLLOUT != 0,
        to_socket: of_socket != 0 && events & libc::POLLOUT != 0,
        from_file: of_file != 0,
    })
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// What failed in a conversation.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConverseError {
    /// The connection, or its time limit passed.
    Stream(io::Error),
    /// The file from which came what was to be sent.
    ToSend(io::Error),
    /// Whoever was given what had been received.
    Received(io::Error),
}

impl fmt::Display for ConverseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => write!(f, "the connection failed: {error}"),
            Self::ToSend(error) => write!(f, "cannot read what is to be sent: {error}"),
            Self::Received(error) => write!(f, "cannot hand on what was received: {error}"),
        }
    }
}

impl Error for ConverseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Stream(error) | Self::ToSend(error) | Self::Received(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// More than the buffers of both directions.
    const LARGE: usize = 8 << 20;

    /// Two ends, of which ours does not wait for ever when nothing moves.
    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (ours, theirs)
    }

    fn collect(received: &mut Vec<u8>) -> impl FnMut(&[u8]) -> io::Result<ControlFlow<()>> {
        |bytes| {
            received.extend_from_slice(bytes);
            Ok(ControlFlow::Continue(()))
        }
    }

    #[test]
    fn more_than_all_buffers_goes_through_an_echo() {
        let (ours, theirs) = pair();
        let echo = thread::spawn(move || io::copy(&mut &theirs, &mut &theirs).unwrap());
        let message: Vec<u8> = (0..LARGE).map(|index| (index % 251) as u8).collect();
        assert!(exchange(&ours, &message, LARGE).unwrap() == message);
        assert_eq!(echo.join().unwrap(), LARGE as u64);
    }

    #[test]
    fn a_server_that_reads_all_before_it_answers_is_told_the_end() {
        let (ours, mut theirs) = pair();
        let server = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            theirs.write_all(&all).unwrap();
        });
        let message = vec![7; LARGE];
        assert!(exchange(&ours, &message, LARGE).unwrap() == message);
        server.join().unwrap();
    }

    #[test]
    fn what_comes_from_a_pipe_is_sent_as_it_comes() {
        let (ours, mut theirs) = pair();
        let (reader, mut writer) = io::pipe().unwrap();
        let dialogue = thread::spawn(move || {
            let mut answer = [0; 3];
            for word in [b"one", b"two"] {
                writer.write_all(word).unwrap();
                theirs.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, word);
                theirs.write_all(&answer).unwrap();
            }
            drop(writer);
            assert_eq!(theirs.read(&mut answer).unwrap(), 0, "our end follows that of the pipe");
        });
        let input = File::from(std::os::fd::OwnedFd::from(reader));
        let mut received = Vec::new();
        converse(&ours, ToSend::File(&input), collect(&mut received)).unwrap();
        dialogue.join().unwrap();
        assert_eq!(received, b"onetwo");
    }

    #[test]
    fn a_line_is_sent_when_it_is_whole() {
        let (ours, mut theirs) = pair();
        let (reader, mut writer) = io::pipe().unwrap();
        let dialogue = thread::spawn(move || {
            let mut line = [0; 100];
            writer.write_all(b"one\ntw").unwrap();
            let length = theirs.read(&mut line).unwrap();
            assert_eq!(&line[..length], b"one\n");
            writer.write_all(b"o\nlast").unwrap();
            let length = theirs.read(&mut line).unwrap();
            assert_eq!(&line[..length], b"two\n");
            drop(writer);
            let mut rest = Vec::new();
            theirs.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"last");
        });
        let input = File::from(std::os::fd::OwnedFd::from(reader));
        converse(&ours, ToSend::Lines(&input), |_| Ok(ControlFlow::Continue(()))).unwrap();
        dialogue.join().unwrap();
    }

    #[test]
    fn a_line_that_never_ends_is_sent_all_the_same() {
        let (ours, mut theirs) = pair();
        let (reader, mut writer) = io::pipe().unwrap();
        let feeding =
            thread::spawn(move || writer.write_all(&vec![b'x'; 1 << 20]).map(|()| writer));
        let reading = thread::spawn(move || {
            // The pipe is still open when most of it has come.
            let mut most = vec![0; 900 << 10];
            theirs.read_exact(&mut most).unwrap();
            let writer = feeding.join().unwrap().unwrap();
            drop(writer);
            io::copy(&mut theirs, &mut io::sink()).unwrap()
        });
        let input = File::from(std::os::fd::OwnedFd::from(reader));
        converse(&ours, ToSend::Lines(&input), |_| Ok(ControlFlow::Continue(()))).unwrap();
        assert_eq!(reading.join().unwrap(), 124 << 10);
    }

    #[test]
    fn the_servers_end_is_the_end_although_the_pipe_is_open() {
        let (ours, mut theirs) = pair();
        let (reader, _writer) = io::pipe().unwrap();
        theirs.write_all(b"hello").unwrap();
        drop(theirs);
        let input = File::from(std::os::fd::OwnedFd::from(reader));
        let mut received = Vec::new();
        converse(&ours, ToSend::File(&input), collect(&mut received)).unwrap();
        assert_eq!(received, b"hello");
    }

    #[test]
    fn bytes_are_sent_to_a_server_that_has_finished_but_still_reads() {
        let (ours, mut theirs) = pair();
        theirs.shutdown(Shutdown::Write).unwrap();
        let server = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all.len()
        });
        assert_eq!(exchange(&ours, &vec![7; LARGE], 0).unwrap(), b"");
        drop(ours);
        assert_eq!(server.join().unwrap(), LARGE);
    }

    #[test]
    fn what_a_server_said_before_it_took_no_more_is_received() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"enough").unwrap();
        drop(theirs);
        assert_eq!(exchange(&ours, &vec![7; LARGE], 100).unwrap(), b"enough");
    }

    #[test]
    fn an_answer_past_its_limit_is_refused() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"seven b").unwrap();
        drop(theirs);
        assert!(matches!(
            exchange(&ours, b"", 6),
            Err(TransferError::TooLong { length: 7, limit: 6 })
        ));
    }

    #[test]
    fn silence_ends_at_the_read_timeout() {
        let (ours, _theirs) = pair();
        ours.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let Err(TransferError::Io(error)) = exchange(&ours, b"anybody?", 100) else {
            panic!("somebody answered");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn each_failure_says_whose_it_is() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"hello").unwrap();
        let full = |_: &[u8]| Err(io::ErrorKind::StorageFull.into());
        let failed = converse(&ours, ToSend::Bytes(b""), full);
        assert!(matches!(failed, Err(ConverseError::Received(_))), "{failed:?}");

        let (ours, _theirs) = pair();
        let folder = File::open("/").unwrap();
        let failed = converse(&ours, ToSend::File(&folder), |_| Ok(ControlFlow::Continue(())));
        assert!(matches!(failed, Err(ConverseError::ToSend(_))), "{failed:?}");
    }
}
