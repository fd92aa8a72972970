//! The poll loop of the slides, with its mistakes: an example of how *not* to serve, kept to be
//! watched failing. `cargo run --example slides_poll`, then `nc 127.0.0.1 9000`.
//!
//! The logic is that of the slides, step by step, with their names: a dictionary of sockets, one of
//! what was received and not answered, one of what was answered and not sent. Where Python raises
//! an exception that nobody catches, and so ends, this ends with the same words. What each mistake
//! does to clients stands in docs/slides.md beside the lines of this crate that do not make it, and
//! each is a test in tests/examples/slides_poll.rs.
//!
//! The slides' sockets block. With the word `nonblocking` behind the address they do not, which is
//! what the branch for an unsent rest is written for: it shows another mistake.
//!
//! One thing cannot be said in Rust without `unsafe`: to close a socket and leave its number in the
//! set. It is shut down instead. poll(2) then reports a hang-up where Python's would report an
//! invalid descriptor, and both lead to the same branch.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let server_socket = TcpListener::bind(address)?;
    println!("listening on tcp {}", server_socket.local_addr()?);
    let nonblocking = arguments.next().is_some_and(|word| word == "nonblocking");
    let raised = Server::new(server_socket, nonblocking).serve_forever();
    // As the last line of Python's traceback; the server is gone, with every connection.
    println!("{raised}");
    std::process::exit(1);
}

/// The exception that ends the server.
enum Raised {
    Key { dictionary: &'static str, fd: RawFd },
    UnicodeDecode(std::string::FromUtf8Error),
    Os(io::Error),
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { dictionary, fd } => write!(f, "KeyError: {fd} in {dictionary}"),
            Self::UnicodeDecode(why) => write!(f, "UnicodeDecodeError: {why}"),
            Self::Os(why) => write!(f, "OSError: {why}"),
        }
    }
}

impl From<io::Error> for Raised {
    fn from(error: io::Error) -> Self {
        Self::Os(error)
    }
}

struct Server {
    server_socket: TcpListener,
    nonblocking: bool,
    /// What the poll object knows: the descriptors, and which events of theirs are of interest.
    registered: BTreeMap<RawFd, PollFlags>,
    sockets: BTreeMap<RawFd, TcpStream>,
    /// Bytes that came and are not processed yet.
    received: BTreeMap<RawFd, Vec<u8>>,
    /// Bytes that are processed and not sent yet.
    to_send: BTreeMap<RawFd, Vec<u8>>,
}

impl Server {
    fn new(server_socket: TcpListener, nonblocking: bool) -> Self {
        Self {
            registered: BTreeMap::from([(server_socket.as_raw_fd(), PollFlags::IN)]),
            server_socket,
            nonblocking,
            sockets: BTreeMap::new(),
            received: BTreeMap::new(),
            to_send: BTreeMap::new(),
        }
    }

    /// Serves until something is raised.
    fn serve_forever(mut self) -> Raised {
        loop {
            if let Err(raised) = self.turn() {
                return raised;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Raised> {
        for (fd, event) in self.poll()? {
            if event.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                self.forget(fd)?;
            } else if fd == self.server_socket.as_raw_fd() {
                self.accept()?;
            } else {
                if event.contains(PollFlags::IN) && !self.receive(fd)? {
                    continue;
                }
                if event.contains(PollFlags::OUT) {
                    self.send(fd)?;
                }
            }
        }
        Ok(())
    }

    fn poll(&self) -> Result<Vec<(RawFd, PollFlags)>, Raised> {
        let mut fds: Vec<PollFd<'_>> = self
            .registered
            .iter()
            .map(|(fd, events)| match self.sockets.get(fd) {
                Some(socket) => PollFd::new(socket, *events),
                None => PollFd::new(&self.server_socket, *events),
            })
            .collect();
        poll(&mut fds, None).map_err(io::Error::from)?;
        let fds = self.registered.keys().zip(&fds).map(|(fd, polled)| (*fd, polled.revents()));
        Ok(fds.filter(|(_, event)| !event.is_empty()).collect())
    }

    /// Mistake: there is something in both dictionaries only now and then, mostly in neither; and
    /// what was deleted once cannot be popped again. So the first client that leaves ends the
    /// server, whichever way it leaves.
    fn forget(&mut self, fd: RawFd) -> Result<(), Raised> {
        pop(&mut self.received, "received", fd)?;
        pop(&mut self.to_send, "to_send", fd)?;
        self.registered.remove(&fd);
        pop(&mut self.sockets, "sockets", fd)?;
        pop(&mut self.sockets, "sockets", fd)?;
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Raised> {
        let (connection_socket, _) = self.server_socket.accept()?;
        connection_socket.set_nonblocking(self.nonblocking)?;
        let fd = connection_socket.as_raw_fd();
        self.sockets.insert(fd, connection_socket);
        self.registered.insert(fd, PollFlags::IN);
        Ok(())
    }

    /// Whether there was anything.
    ///
    /// Mistakes: at the client's end the connection is closed over what it was not answered yet,
    /// and stays registered. And what is received is bounded by nothing, however slowly the client
    /// takes its answers.
    fn receive(&mut self, fd: RawFd) -> Result<bool, Raised> {
        let mut data = [0; 4096];
        let mut socket = &self.sockets[&fd];
        let count = socket.read(&mut data)?;
        if count == 0 {
            socket.shutdown(Shutdown::Both)?;
            return Ok(false);
        }
        self.received.entry(fd).or_default().extend(&data[..count]);
        self.registered.insert(fd, PollFlags::IN | PollFlags::OUT);
        Ok(true)
    }

    /// Mistakes: when a rest is to be sent, nothing need have been received. A letter that was cut
    /// by a read cannot be decoded. And a blocking send of much waits for this one client, and all
    /// others with it.
    fn send(&mut self, fd: RawFd) -> Result<(), Raised> {
        let data = pop(&mut self.received, "received", fd)?;
        let data = String::from_utf8(data).map_err(Raised::UnicodeDecode)?;
        let mut data = data.to_uppercase().into_bytes();
        if let Some(mut rest) = self.to_send.remove(&fd) {
            rest.append(&mut data);
            data = rest;
        }
        let n = send(&self.sockets[&fd], &data, self.nonblocking)?;
        if n < data.len() {
            self.to_send.insert(fd, data[n..].to_vec());
        } else {
            self.registered.insert(fd, PollFlags::IN);
        }
        Ok(())
    }
}

/// As `dictionary.pop(fd)`.
fn pop<T>(dictionary: &mut BTreeMap<RawFd, T>, name: &'static str, fd: RawFd) -> Result<T, Raised> {
    dictionary.remove(&fd).ok_or(Raised::Key { dictionary: name, fd })
}

/// As `send` of a socket in Python: one that blocks has taken everything when it returns.
fn send(mut socket: &TcpStream, data: &[u8], nonblocking: bool) -> io::Result<usize> {
    if nonblocking {
        return socket.write(data);
    }
    socket.write_all(data)?;
    Ok(data.len())
}
