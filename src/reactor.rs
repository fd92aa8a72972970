//! The door for what only a readiness loop on the caller's own thread can do: handlers that share
//! memory without locks, outgoing connections, and a loop inside another loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use crate::counters::Snapshot;
use crate::error::Error;
use crate::front::epoll::Epoll;
use crate::front::readiness::Readiness;
use crate::front::{Model, Sockets, epoll, poll};
use crate::handler::Service;
use crate::kernel::Kernel;
use crate::local::Local;
use crate::moment::{Moment, Patience};
use crate::server::Server;

impl<S: Service> Server<S> {
    /// As [`run`](Server::run), with one readiness loop on this thread: neither the service nor its
    /// handlers need to be [`Send`] or [`Sync`], and they may ask the loop for things by `local`.
    ///
    /// # Errors
    /// As [`run`](Server::run); also when the model blocks or has several reactors.
    pub fn run_local(self, local: &Local<S::Handler>) -> Result<Snapshot, Error> {
        let must = "epoll or poll, with one reactor";
        let setting = Error::Setting { name: "the model of a server on this thread", must };
        if self.reactors() > 1 {
            return Err(setting);
        }
        let model = self.model();
        self.over_front(|front, sockets| {
            match model {
                Model::Epoll => epoll::run_local(front, sockets, Some(local)),
                Model::Poll => poll::run_local(front, sockets, Some(local)),
                _ => return Err(setting),
            }
            .map_err(Error::Run)
        })
    }

    /// Lends `drive` the reactor of this server, to be turned inside a loop of the caller's own.
    /// Everything that is still open when `drive` returns is closed at once.
    ///
    /// The caller's loop waits for [`Reactor`]'s descriptor to be readable, but no longer than the last
    /// [`turn`](Reactor::turn) said, and then turns again:
    ///
    /// ```no_run
    /// use evmux::{Local, Next, Server, services};
    /// use std::time::Duration;
    ///
    /// let server = Server::builder(services::echo).listen("127.0.0.1:9000").build()?;
    /// server.attend(&Local::new(), |reactor| {
    ///     loop {
    ///         match reactor.turn(Some(Duration::ZERO))? {
    ///             Next::Finished => return Ok(()),
    ///             Next::Now => {}                      // turn again, after a look at other things
    ///             Next::At(_instant) => { /* wait for the descriptor, until then */ }
    ///             Next::Event => { /* wait for the descriptor */ }
    ///         }
    ///         # return Ok(());
    ///     }
    /// })?;
    /// # Ok::<(), evmux::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `drive`, and when the model is not [`Model::Epoll`] with one reactor.
    pub fn attend<R>(
        self,
        local: &Local<S::Handler>,
        drive: impl FnOnce(&mut Reactor<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if self.model() != Model::Epoll || self.reactors() > 1 {
            let must = "epoll, with one reactor";
            return Err(Error::Setting { name: "the model of a server in a foreign loop", must });
        }
        let mut returned = None;
        self.over_front(|front, sockets| {
            let counters = front.totals.register();
            let queue = front.queue(0);
            let Sockets { listeners, datagrams } = sockets;
            let (udp, handlers) = datagrams.into_iter().unzip();
            let kernel = Epoll::new(front.origin, listeners, udp, front.stop, queue.as_deref())
                .map_err(Error::Run)?;
            let events = kernel.events();
            let readiness = Readiness::<_, _>::new(front, kernel, &counters)
                .with_queue(queue, 0)
                .with_local(Some(local))
                .named("epoll")
                .with_datagrams(handlers);
            let mut attended = Attended { readiness, events, origin: front.origin };
            let result = drive(&mut Reactor { turning: &mut attended });
            attended.readiness.cut_open();
            returned = Some(result?);
            Ok(())
        })?;
        returned.ok_or_else(|| Error::Run(io::Error::other("the loop was not driven")))
    }
}

/// A readiness loop that is turned by the caller. See [`Server::attend`].
pub struct Reactor<'r> {
    turning: &'r mut dyn Turn,
}

/// What a foreign loop is to wait for before the next [`turn`](Reactor::turn).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: there is more to do already.
    Now,
    /// The descriptor, but not longer than until then: deadlines do not make it readable.
    At(Instant),
    /// The descriptor.
    Event,
    /// The server was stopped, and the last connection is over.
    Finished,
}

impl Reactor<'_> {
    /// Waits for something to do, at most `timeout`, does it, and says when to come again.
    /// `Some(Duration::ZERO)` does not wait; `None` waits as long as it takes.
    ///
    /// # Errors
    /// When waiting itself fails.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<Next, Error> {
        self.turning.turn(timeout).map_err(Error::Run)
    }
}

impl AsFd for Reactor<'_> {
    /// Readable when there is something to do. For waiting only.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.turning.descriptor()
    }
}

impl AsRawFd for Reactor<'_> {
    /// As [`as_fd`](AsFd::as_fd), while the reactor is there.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// The loop of a service whose type is of no interest to who turns it.
trait Turn {
    fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Next>;
    fn descriptor(&self) -> BorrowedFd<'_>;
}

struct Attended<'s, S: Service> {
    readiness: Readiness<'s, Epoll, S>,
    events: <Epoll as Kernel>::Events,
    origin: Instant,
}

impl<S: Service> Turn for Attended<'_, S> {
    fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Next> {
        let patience = timeout.map_or(Patience::FOREVER, Patience::new);
        if !self.readiness.turn_within(&mut self.events, patience)? {
            return Ok(Next::Finished);
        }
        // There may be more events than one batch takes, and an edge-triggered loop outside would
        // not be told of them again.
        if self.events.iter().count() == self.events.capacity() {
            return Ok(Next::Now);
        }
        let deadline = self.readiness.deadline();
        if deadline != Moment::START {
            // It is the caller's loop that waits now.
            self.readiness.rest();
        }
        Ok(match deadline {
            Moment::START => Next::Now,
            Moment::NEVER => Next::Event,
            moment => Next::At(self.origin + moment.since(Moment::START)),
        })
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.readiness.kernel().as_fd()
    }
}
