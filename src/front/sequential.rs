//! One client at a time: accept, serve to the end, accept the next. The others wait in the backlog.

use std::io;

use socket2::Socket;

use crate::front::Front;
use crate::front::blocking::Blocking;
use crate::handler::Service;

/// Serves until the server is stopped. With one listener: a thread that waits in accept(2) at one
/// cannot see the clients of another.
pub(crate) fn run<S: Service>(front: &Front<'_, S>, listeners: Vec<Socket>) -> io::Result<()> {
    let blocking = Blocking::new(front, &listeners)?;
    let counters = front.totals.register();
    let mut desk = blocking.desk("sequential", &counters);
    for (index, listener) in listeners.iter().enumerate() {
        blocking.serve_at(listener, index, &counters, &mut desk);
    }
    Ok(())
}
