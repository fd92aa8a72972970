//! A chat: `cargo run --example chat`, then `nc 127.0.0.1 9000` in several terminals. Each line of
//! one client goes to all others.
//!
//! A handler has one connection, its own. What is for another one goes through the mailbox: a
//! `Handle` sends to any connection whose id one knows, and the members of the room are such ids.
//! A line is stored once, however many it is for.
//!
//! Two things have a bound. Who does not read is cut once 256 KiB wait for it, so that nobody else
//! has to wait. And the mailbox may be full: then the speaker is not read from until the loop has
//! emptied it.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex};

use evmux::codec::lines::{Line, Lines};
use evmux::{
    CloseReason, ConnectionId, Exchange, Flow, Handle, Handler, Limits, Mailbox, Overflow, Peer,
    PostError, Server,
};

type Members = Arc<Mutex<BTreeSet<ConnectionId>>>;

struct Member {
    id: ConnectionId,
    members: Members,
    handle: Handle,
    lines: Lines,
    /// A line that not everybody was told, and who was told last.
    unfinished: Option<(Arc<[u8]>, Option<ConnectionId>)>,
}

impl Member {
    /// Tells the others what was not told yet. False when the mailbox is full before all are told.
    fn tell(&mut self) -> bool {
        let Some((line, told)) = &mut self.unfinished else { return true };
        let members = self.members.lock().unwrap();
        let rest = (told.map_or(Unbounded, Excluded), Unbounded);
        for &id in members.range(rest).filter(|&&id| id != self.id) {
            match self.handle.send(id, Arc::clone(line)) {
                // Who is gone needs not be told.
                Ok(()) | Err(PostError::Stale(_)) => *told = Some(id),
                Err(PostError::Full(_)) => return false,
            }
        }
        drop(members);
        self.unfinished = None;
        true
    }
}

impl Handler for Member {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let mut members = self.members.lock().unwrap();
        members.insert(self.id);
        exchange.to_send.append(format!("welcome: {} are here\n", members.len()).as_bytes());
        Flow::Continue
    }

    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            if !self.tell() {
                return Flow::Again;
            }
            match self.lines.next(&exchange.received, exchange.max_frame()) {
                Ok(Line::Whole { payload, length }) => {
                    let line = [&exchange.received[..payload], b"\n"].concat();
                    exchange.received.consume(length);
                    self.unfinished = Some((line.into(), None));
                }
                Ok(Line::Partial) => return Flow::Continue,
                Err(too_long) => return Flow::Refuse(too_long.into()),
            }
        }
    }

    fn closed(&mut self, _: &CloseReason) {
        self.members.lock().unwrap().remove(&self.id);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9000".into());
    evmux::raise_descriptor_limit()?;

    let mailbox = Mailbox::new()?;
    let (handle, members) = (mailbox.handle(), Members::default());
    let service = move |peer: &Peer| Member {
        id: peer.id.expect("the readiness models name their connections"),
        members: Arc::clone(&members),
        handle: handle.clone(),
        lines: Lines::default(),
        unfinished: None,
    };
    let limits =
        Limits::default().max_frame(4096).send_buffer(256 * 1024).overflow(Overflow::Close);
    let server = Server::builder(service)
        .limits(limits)
        .mailbox(mailbox)
        .listen(address.as_str())
        .build()?;
    println!("listening on {}", server.local_addresses()[0]);
    server.run()?;
    Ok(())
}
