//! A question and its answer in a datagram each, over a network that loses some.
//!
//! Nothing tells a lost datagram from a slow server. So the question is sent again, the same bytes
//! each time, and the wait doubles: a server that is slow because it has much to do is not given
//! more and more of it.
//!
//! ```text
//!   sent at   0     0.1       0.3               0.7                 1.5 s      3.1 s
//!             |-0.1-|---0.2---|-------0.4-------|--------0.8--------|---1.6----| server seems down
//! ```
//!
//! The sockets are not connected: the answer to a broadcast comes from another address than it was
//! sent to, and that of a machine with several addresses may, too. So whoever answers first is
//! believed, and is named to the caller.

use std::error::Error;
use std::fmt;
use std::io;
use std::iter;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::sys::{self, PollFd};

/// The most bytes that a datagram over IPv4 carries: 65,535 less the heads of IP and UDP.
pub const LONGEST_DATAGRAM: usize = 65_507;

/// How often a question is sent, and to whom.
///
/// ```
/// use std::time::Duration;
///
/// use evmux::client::RequestOptions;
///
/// let tenths: Vec<_> =
///     RequestOptions::default().delays().map(|delay| delay.as_millis() / 100).collect();
/// assert_eq!(tenths, [1, 2, 4, 8, 16]);
/// ```
#[derive(Clone, Debug)]
pub struct RequestOptions {
    retry_after: Duration,
    give_up_after: Option<Duration>,
    broadcast: bool,
}

impl RequestOptions {
    /// The first wait for an answer; each further one is twice as long. 100 ms by default, and at
    /// least 1 ms: a network that is asked without a pause answers no sooner.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: wait.max(Duration::from_millis(1)), ..self }
    }

    /// The longest single wait: a longer one is not begun, and the server counts as down. 2 s by
    /// default; `None` never gives up. The first wait is always begun.
    #[must_use]
    pub fn give_up_after(self, longest: Option<Duration>) -> Self {
        Self { give_up_after: longest, ..self }
    }

    /// Whether the question may go to a broadcast address; the kernel refuses that otherwise, so
    /// that nobody asks a whole network by a slip. `false` by default.
    #[must_use]
    pub fn broadcast(self, allowed: bool) -> Self {
        Self { broadcast: allowed, ..self }
    }

    /// How long each datagram waits for its answer: one delay for each that is sent.
    pub fn delays(&self) -> impl Iterator<Item = Duration> + use<> {
        let longest = self.give_up_after;
        iter::successors(Some(self.retry_after), move |delay| {
            let next = delay.saturating_mul(2);
            longest.is_none_or(|longest| next <= longest).then_some(next)
        })
    }
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self {
            retry_after: Duration::from_millis(100),
            give_up_after: Some(Duration::from_secs(2)),
            broadcast: false,
        }
    }
}

/// Sends `message` in a datagram until an answer comes, and returns the answer and whose it is.
///
/// The addresses of a name are tried in turn, as with a connection: the next one when one cannot be
/// sent to, or refuses (ICMP says that nobody is there), or has not answered at all. Who is the
/// only address left is asked to the end, since a server that refuses may be about to start.
///
/// ```
/// use std::net::UdpSocket;
/// use std::thread;
///
/// use evmux::client::{RequestOptions, request};
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let address = server.local_addr()?;
/// thread::spawn(move || {
///     let mut question = [0; 100];
///     let (length, client) = server.recv_from(&mut question).unwrap();
///     server.send_to(&question[..length].to_ascii_uppercase(), client).unwrap();
/// });
///
/// let (answer, from) = request(address, b"hello", &RequestOptions::default())?;
/// assert_eq!((answer.as_slice(), from), (&b"HELLO"[..], address));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When nobody answered, when nothing could be sent, or when `message` fits no datagram.
pub fn request(
    target: impl ToSocketAddrs,
    message: &[u8],
    options: &RequestOptions,
) -> Result<(Vec<u8>, SocketAddr), RequestError> {
    if message.len() > LONGEST_DATAGRAM {
        let (length, limit) = (message.len() as u64, LONGEST_DATAGRAM as u64);
        return Err(RequestError::TooLong { length, limit });
    }
    let addresses: Vec<_> = target.to_socket_addrs().map_err(RequestError::Lookup)?.collect();
    let Some((last, others)) = addresses.split_last() else {
        let nothing = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        return Err(RequestError::Lookup(nothing));
    };
    let mut sockets = Sockets::default();
    let mut unanswered = Unanswered::default();
    for &address in others {
        if let Some(answer) = sockets.ask(address, message, options, true, &mut unanswered)? {
            return Ok(answer);
        }
    }
    match sockets.ask(*last, message, options, false, &mut unanswered)? {
        Some(answer) => Ok(answer),
        None => Err(unanswered.into_error(*last)),
    }
}

/// What is known while no answer has come.
#[derive(Default)]
struct Unanswered {
    datagrams: u32,
    waited: Duration,
    refused: bool,
    /// What kept a datagram from being sent at all, and to whom.
    unsent: Option<(SocketAddr, io::Error)>,
}

impl Unanswered {
    fn into_error(self, address: SocketAddr) -> RequestError {
        match self.unsent {
            Some((address, source)) if self.datagrams == 0 => {
                RequestError::Send { address, source }
            }
            _ => RequestError::Unanswered {
                address,
                datagrams: self.datagrams,
                waited: self.waited,
                refused: self.refused,
            },
        }
    }
}

/// One for each family, made when the first address of that family is asked. Both are listened
/// to until the end: a late answer is an answer.
#[derive(Default)]
struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

/// What came while an answer was waited for.
enum Came {
    Answer(Vec<u8>, SocketAddr),
    /// Nobody is at this address.
    Refusal(SocketAddr),
    Nothing,
}

impl Sockets {
    /// Asks one address to the end, or, while there are `others` behind it, until it refuses.
    fn ask(
        &mut self,
        address: SocketAddr,
        message: &[u8],
        options: &RequestOptions,
        others: bool,
        unanswered: &mut Unanswered,
    ) -> Result<Option<(Vec<u8>, SocketAddr)>, RequestError> {
        for delay in options.delays() {
            match self.send(address, message, options) {
                Ok(()) => unanswered.datagrams = unanswered.datagrams.saturating_add(1),
                Err(source) => {
                    unanswered.unsent = Some((address, source));
                    return Ok(None);
                }
            }
            let began = Instant::now();
            let came = self.wait(address, began, delay, others, unanswered);
            unanswered.waited += began.elapsed();
            match came.map_err(RequestError::Receive)? {
                Came::Answer(bytes, from) => return Ok(Some((bytes, from))),
                Came::Refusal(_) => return Ok(None),
                Came::Nothing => {}
            }
        }
        Ok(None)
    }

    fn send(
        &mut self,
        address: SocketAddr,
        message: &[u8],
        options: &RequestOptions,
    ) -> io::Result<()> {
        let socket = self.socket_for(address, options)?;
        // What ICMP said of an earlier datagram is the error of whatever call comes next, and then
        // forgotten: the second one is this datagram's own.
        let sent = socket.send_to(message, address).or_else(|_| socket.send_to(message, address));
        match sent {
            Ok(_) => Ok(()),
            // No room in the queue of the interface: it is lost, as it may be anywhere on its way.
            Err(error) if is_loss(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn socket_for(
        &mut self,
        address: SocketAddr,
        options: &RequestOptions,
    ) -> io::Result<&UdpSocket> {
        let (place, any): (_, SocketAddr) = match address {
            SocketAddr::V4(_) => (&mut self.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&mut self.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        match place {
            Some(socket) => Ok(socket),
            None => {
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                socket.set_broadcast(options.broadcast)?;
                sys::report_refusals(socket.as_fd(), address.is_ipv6())?;
                Ok(place.insert(socket))
            }
        }
    }

    /// Waits until `delay` after `began`, or shorter if something comes. A refusal by `address` is
    /// only noted, unless there are `others`.
    fn wait(
        &self,
        address: SocketAddr,
        began: Instant,
        delay: Duration,
        others: bool,
        unanswered: &mut Unanswered,
    ) -> io::Result<Came> {
        loop {
            let rest = delay.saturating_sub(began.elapsed());
            let sockets = [&self.v4, &self.v6];
            let mut fds = sockets.map(|socket| PollFd {
                // A negative descriptor is not waited for.
                fd: socket.as_ref().map_or(-1, AsRawFd::as_raw_fd),
                events: libc::POLLIN,
                revents: 0,
            });
            match sys::poll(&mut fds, Some(rest)) {
                Ok(0) if rest.is_zero() => return Ok(Came::Nothing),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for (socket, fd) in sockets.into_iter().zip(fds) {
                let Some(socket) = socket.as_ref().filter(|_| fd.revents != 0) else { continue };
                match receive(socket)? {
                    Came::Refusal(by) => {
                        unanswered.refused = true;
                        if others && by == address {
                            return Ok(Came::Refusal(by));
                        }
                    }
                    Came::Nothing => {}
                    answer => return Ok(answer),
                }
            }
        }
    }
}

/// One answer or one refusal of those that wait.
fn receive(socket: &UdpSocket) -> io::Result<Came> {
    // One more than fits, so that nothing is cut without a trace, over IPv6 either.
    let mut bytes = vec![0; 1 << 16];
    let failed = match socket.recv_from(&mut bytes) {
        Ok((length, from)) => {
            bytes.truncate(length);
            return Ok(Came::Answer(bytes, from));
        }
        Err(error) => error,
    };
    // If it is about a datagram, that comes back, with the address that it was sent to.
    let mut lost = [MaybeUninit::uninit(); 1];
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    match SockRef::from(socket).recv_from_with_flags(&mut lost, flags) {
        Ok((_, address)) if is_refusal(&failed) => {
            Ok(address.as_socket().map_or(Came::Nothing, Came::Refusal))
        }
        // Too long for a link on the way, and cut to its measure when it is sent again.
        Ok(_) => Ok(Came::Nothing),
        Err(_) if is_refusal(&failed) || is_passing(&failed) => Ok(Came::Nothing),
        Err(_) => Err(failed),
    }
}

/// ICMP says that it came to nobody, for one reason or another.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied
    ) || matches!(error.raw_os_error(), Some(libc::EPROTO | libc::ENOPROTOOPT | libc::EHOSTDOWN))
}

fn is_loss(error: &io::Error) -> bool {
    is_passing(error) || error.raw_os_error() == Some(libc::ENOBUFS)
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// Why there is no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// The name is not known, cannot be looked up, or has no address.
    Lookup(io::Error),
    /// No datagram carries so much.
    TooLong {
        /// The length of the message in bytes.
        length: u64,
        /// [`LONGEST_DATAGRAM`].
        limit: u64,
    },
    /// Nothing could be sent to any address.
    Send {
        /// The last one.
        address: SocketAddr,
        /// Why not. A broadcast that was not allowed is `PermissionDenied`.
        source: io::Error,
    },
    /// Nothing can be received.
    Receive(io::Error),
    /// Nobody answered in time: the server seems down.
    Unanswered {
        /// The last address that was asked.
        address: SocketAddr,
        /// How many datagrams were sent.
        datagrams: u32,
        /// How long answers were waited for.
        waited: Duration,
        /// Whether one was refused.
        refused: bool,
    },
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(source) => write!(f, "cannot look the address up: {source}"),
            Self::TooLong { length, limit } => {
                write!(f, "{length} bytes fit no datagram: at most {limit} do")
            }
            Self::Send { address, source } => write!(f, "cannot send to {address}: {source}"),
            Self::Receive(source) => write!(f, "cannot receive: {source}"),
            Self::Unanswered { address, datagrams, waited, refused } => {
                let refused = if *refused { "refused, and " } else { "" };
                let count = if *datagrams == 1 { "a datagram" } else { "datagrams" };
                let number = if *datagrams == 1 { String::new() } else { format!("{datagrams} ") };
                let waited = waited.as_secs_f64();
                write!(f, "{address}: {refused}no answer to {number}{count} in {waited:.1} s")?;
                f.write_str(": server seems down")
            }
        }
    }
}

impl Error for RequestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Lookup(source) | Self::Send { source, .. } | Self::Receive(source) => {
                Some(source)
            }
            Self::TooLong { .. } | Self::Unanswered { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const QUICK: Duration = Duration::from_millis(1);

    fn milliseconds(options: RequestOptions, most: usize) -> Vec<u128> {
        options.delays().take(most).map(|delay| delay.as_millis()).collect()
    }

    #[test]
    fn each_wait_is_twice_the_one_before_until_the_longest() {
        let options = RequestOptions::default();
        assert_eq!(milliseconds(options.clone(), 99), [100, 200, 400, 800, 1600]);
        assert_eq!(options.delays().sum::<Duration>(), Duration::from_millis(3100));

        let sharp = options.give_up_after(Some(Duration::from_millis(1600)));
        assert_eq!(milliseconds(sharp, 99).len(), 5);
        let impatient = RequestOptions::default().give_up_after(Some(QUICK));
        assert_eq!(milliseconds(impatient, 99), [100]);
    }

    #[test]
    fn never_is_longer_than_any_number_of_waits() {
        let patient = RequestOptions::default().give_up_after(None);
        assert_eq!(milliseconds(patient.clone(), 6), [100, 200, 400, 800, 1600, 3200]);
        // However long: no wait overflows.
        assert_eq!(patient.delays().take(1000).last(), Some(Duration::MAX));
    }

    #[test]
    fn a_wait_is_never_nothing() {
        let hasty = RequestOptions::default().retry_after(Duration::ZERO);
        assert_eq!(milliseconds(hasty, 3), [1, 2, 4]);
    }

    fn server() -> (UdpSocket, SocketAddr) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        (server, address)
    }

    /// Answers the datagrams that come to `server`, of which it drops as many, with themselves.
    fn echo_after(server: UdpSocket, dropped: usize) -> thread::JoinHandle<Vec<Vec<u8>>> {
        thread::spawn(move || {
            let mut questions = Vec::new();
            let mut bytes = vec![0; 1 << 16];
            loop {
                let (length, client) = server.recv_from(&mut bytes).unwrap();
                questions.push(bytes[..length].to_vec());
                if questions.len() > dropped {
                    server.send_to(&bytes[..length], client).unwrap();
                    return questions;
                }
            }
        })
    }

    #[test]
    fn the_same_bytes_are_sent_until_they_are_answered() {
        let (server, address) = server();
        let echo = echo_after(server, 3);
        let options = RequestOptions::default().retry_after(QUICK).give_up_after(None);
        let (answer, from) = request(address, b"the same", &options).unwrap();
        assert_eq!((answer.as_slice(), from), (&b"the same"[..], address));
        assert_eq!(echo.join().unwrap(), vec![b"the same".to_vec(); 4]);
    }

    #[test]
    fn the_shortest_and_the_longest_datagram_are_questions_and_answers() {
        let options = RequestOptions::default().give_up_after(None);
        for message in [vec![], vec![7; LONGEST_DATAGRAM]] {
            let (server, address) = server();
            let echo = echo_after(server, 0);
            let (answer, _) = request(address, &message, &options).unwrap();
            assert!(answer == message);
            echo.join().unwrap();
        }
        assert!(matches!(
            request("127.0.0.1:9", &[7; LONGEST_DATAGRAM + 1], &options),
            Err(RequestError::TooLong { length: 65_508, limit: 65_507 })
        ));
    }

    #[test]
    fn an_answer_may_come_from_another_address() {
        let (server, address) = server();
        let other = UdpSocket::bind("127.0.0.2:0").unwrap();
        let elsewhere = other.local_addr().unwrap();
        let answering = thread::spawn(move || {
            let (_, client) = server.recv_from(&mut [0; 10]).unwrap();
            other.send_to(b"here", client).unwrap();
        });
        let options = RequestOptions::default().give_up_after(None);
        let answer = request(address, b"where?", &options).unwrap();
        assert_eq!(answer, (b"here".to_vec(), elsewhere));
        answering.join().unwrap();
    }

    #[test]
    fn a_refusal_is_no_answer_and_the_only_address_is_asked_to_the_end() {
        let (closed, address) = server();
        drop(closed);
        let options = RequestOptions::default().retry_after(QUICK).give_up_after(Some(4 * QUICK));
        let error = request(address, b"hello", &options).unwrap_err();
        assert!(
            matches!(error, RequestError::Unanswered { datagrams: 3, refused: true, .. }),
            "{error:?}"
        );
        assert!(error.to_string().ends_with(": server seems down"), "{error}");
    }

    #[test]
    fn an_address_that_refuses_is_followed_by_the_next_without_waiting() {
        let (closed, nobody) = server();
        drop(closed);
        let (server, address) = server();
        let echo = echo_after(server, 0);
        // Waiting for the first address would never end.
        let options = RequestOptions::default().retry_after(Duration::MAX).give_up_after(None);
        let (_, from) = request(&[nobody, nobody, address][..], b"hello", &options).unwrap();
        assert_eq!(from, address);
        echo.join().unwrap();
    }

    #[test]
    fn an_address_that_is_silent_is_followed_by_the_next() {
        let (_silent, silent) = server();
        let (server, address) = server();
        let echo = echo_after(server, 0);
        let options = RequestOptions::default().retry_after(QUICK).give_up_after(Some(4 * QUICK));
        // The last one may need more than three milliseconds, so it is named often.
        let targets = [&[silent][..], &[address; 1000]].concat();
        let (_, from) = request(&targets[..], b"hello", &options).unwrap();
        assert_eq!(from, address);
        echo.join().unwrap();
    }

    #[test]
    fn broadcast_is_refused_unless_it_is_allowed() {
        let target = "127.255.255.255:9";
        let error = request(target, b"all of you", &RequestOptions::default()).unwrap_err();
        let RequestError::Send { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
    }
}
