//! Work that would hold up the loop, done by other threads: `cargo run --example offload`, then
//! `nc 127.0.0.1 9000` and numbers, one a line. Each is answered with how many primes are below it.
//!
//! The handler gives a number away and says `Flow::Wait`: its client is not read from meanwhile, all
//! others are served. The thread that has the answer wakes the connection by its `Handle`, and
//! `wake` answers and says `Flow::Again`. So a client has one number under way at a time, its answers
//! come in order, and it can neither fill the queue of the workers nor the mailbox.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use evmux::codec::lines::{Line, Lines};
use evmux::{
    ConnectionId, Exchange, Flow, Handle, Handler, Limits, Mailbox, Peer, Server, Violation,
};

const WORKERS: usize = 2;

/// Fewer than the mailbox holds: with one message under way for each, it is never full.
const MOST_CONNECTIONS: usize = Mailbox::CAPACITY / 2;

/// A number that a worker is to look at, and whom to wake when the answer is there.
struct Job {
    number: u64,
    id: ConnectionId,
    answer: Sender<u64>,
}

struct Asker {
    id: ConnectionId,
    lines: Lines,
    jobs: Sender<Job>,
    /// Answers come here, and are fetched when the connection is woken.
    answer: Sender<u64>,
    answers: Receiver<u64>,
    working: bool,
    draining: bool,
}

impl Handler for Asker {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let length = match self.lines.next(&exchange.received, exchange.max_frame()) {
            Ok(Line::Whole { length, .. }) => length,
            Ok(Line::Partial) => return Flow::Continue,
            Err(too_long) => return Flow::Refuse(too_long.into()),
        };
        let text = str::from_utf8(&exchange.received[..length]).unwrap_or("");
        let Ok(number) = text.trim().parse() else {
            return Flow::Refuse(Violation::Malformed("a line is a number"));
        };
        exchange.received.consume(length);
        match self.jobs.send(Job { number, id: self.id, answer: self.answer.clone() }) {
            Ok(()) => {
                self.working = true;
                Flow::Wait
            }
            // The workers are gone.
            Err(_) => Flow::Abort,
        }
    }

    fn wake(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        match self.answers.try_recv() {
            Ok(count) => {
                exchange.to_send.append(format!("{count}\n").as_bytes());
                self.working = false;
                if self.draining { Flow::Close } else { Flow::Again }
            }
            // Woken by somebody else: what it waits for is still to come.
            Err(_) => Flow::Continue,
        }
    }

    /// An answer that is under way is waited for; what was asked behind it is not begun any more.
    fn drain(&mut self, _: &mut Exchange<'_>) -> Flow {
        self.draining = true;
        if self.working { Flow::Continue } else { Flow::Close }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, handle: &Handle) {
    loop {
        let job = jobs.lock().unwrap().recv();
        let Ok(Job { number, id, answer }) = job else { return };
        // Neither matters to a client that has gone meanwhile.
        let _ = answer.send(primes_below(number));
        let _ = handle.wake(id);
    }
}

/// Slow on purpose.
fn primes_below(number: u64) -> u64 {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (2..number).filter(is_prime).count() as u64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9000".into());
    let mailbox = Mailbox::new()?;
    let (give, take) = mpsc::channel();
    let take = Arc::new(Mutex::new(take));
    for _ in 0..WORKERS {
        let (jobs, handle) = (Arc::clone(&take), mailbox.handle());
        thread::spawn(move || work(&jobs, &handle));
    }

    let service = move |peer: &Peer| {
        let (answer, answers) = mpsc::channel();
        let id = peer.id.expect("the readiness models name their connections");
        Asker {
            id,
            lines: Lines::default(),
            jobs: give.clone(),
            answer,
            answers,
            working: false,
            draining: false,
        }
    };
    let server = Server::builder(service)
        .limits(Limits::default().max_frame(64))
        .max_connections(MOST_CONNECTIONS)
        .mailbox(mailbox)
        .listen(address.as_str())
        .build()?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run()?;
    Ok(())
}
