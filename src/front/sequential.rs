//! One client at a time: accept, serve to the end, accept the next. The others wait in the backlog.

use std::io;

use socket2::Socket;

use crate::front::Front;
use crate::front::blocking::Blocking;
use crate::handler::Service;
use crate::transfer::Scratch;

/// Serves until the server is stopped. With one listener: a thread that waits in accept(2) at one
/// cannot see the clients of another.
pub(crate) fn run<S: Service>(front: &Front<'_, S>, listeners: Vec<Socket>) -> io::Result<()> {
    let blocking = Blocking::new(front, &listeners)?;
    let counters = front.totals.register();
    let mut scratch = Scratch::new(&blocking.limits, &counters);
    for (index, listener) in listeners.iter().enumerate() {
        while let Some((stream, peer)) = blocking.accept(listener, index, &counters) {
            blocking.serve(stream, &peer, &mut scratch);
        }
    }
    Ok(())
}
