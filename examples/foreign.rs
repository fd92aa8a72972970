//! A server inside the loop of a program that waits for other things as well, here for its standard
//! input: `cargo run --example foreign`, then `nc 127.0.0.1 9000`. What is typed is
//! answered with how many clients there are, and the end of the input is the server's.
//!
//! The program's loop owns the thread. It waits for the reactor's descriptor, no longer than the
//! last turn said, and turns the reactor. All runs on one thread, so the program and the handlers
//! share a number in an `Rc`.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evmux::{CloseReason, Error, Exchange, Flow, Handler, Local, Next, Peer, Reactor, Server};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Answers each byte with itself, and counts who is there.
struct Counted {
    clients: Rc<Cell<u32>>,
}

impl Handler for Counted {
    fn open(&mut self, _: &mut Exchange<'_>) -> Flow {
        self.clients.set(self.clients.get() + 1);
        Flow::Continue
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.to_send.append_received(&mut exchange.received, count);
        Flow::Continue
    }

    fn closed(&mut self, _: &CloseReason) {
        self.clients.set(self.clients.get() - 1);
    }
}

/// Waits for the reactor and for the input, if that has not ended. Whether the input has something.
fn wait(reactor: &Reactor<'_>, next: Next, input: Option<&io::Stdin>) -> io::Result<bool> {
    let timeout = match next {
        Next::Now | Next::Finished => Some(Duration::ZERO),
        // In the past if its time has come meanwhile, and then it is not waited for.
        Next::At(instant) => Some(instant.saturating_duration_since(Instant::now())),
        Next::Event => None,
    };
    // One too long to be said is as good as none.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let mut waited_for = vec![PollFd::new(reactor, PollFlags::IN)];
    waited_for.extend(input.map(|input| PollFd::new(input, PollFlags::IN)));
    match poll(&mut waited_for, timeout.as_ref()) {
        Ok(_) => Ok(waited_for.get(1).is_some_and(|input| !input.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9000".into());
    let clients = Rc::new(Cell::new(0));
    let service = |_: &Peer| Counted { clients: Rc::clone(&clients) };
    let server = Server::builder(service).listen(address.as_str()).build()?;
    println!("listening on {}", server.local_addresses()[0]);

    let stop = server.stop();
    let stdin = io::stdin();
    server.attend(&Local::new(), |reactor| {
        let mut input = Some(&stdin);
        loop {
            let next = reactor.turn(Some(Duration::ZERO))?;
            if next == Next::Finished {
                return Ok(());
            }
            if !wait(reactor, next, input).map_err(Error::Run)? {
                continue;
            }
            // Not by its buffer, of which poll(2) knows nothing.
            match rustix::io::read(&stdin, &mut [0; 1024]) {
                Ok(count) if count > 0 => println!("{} clients", clients.get()),
                _ => {
                    input = None;
                    stop.drain();
                }
            }
        }
    })
}
