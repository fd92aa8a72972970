//! A thread for each connection, and one at each listener that accepts them.

use std::io;
use std::thread::{self, Scope};

use socket2::Socket;

use crate::front::Front;
use crate::front::blocking::Blocking;
use crate::handler::Service;
use crate::transfer::Clock;

/// Serves until the server is stopped and the last connection is over.
pub(crate) fn run<S>(front: &Front<'_, S>, listeners: Vec<Socket>) -> io::Result<()>
where
    S: Service + Sync,
{
    let blocking = &Blocking::new(front, &listeners)?;
    thread::scope(|scope| {
        for (index, listener) in listeners.into_iter().enumerate() {
            thread::Builder::new()
                .name(format!("evmux-accept-{index}"))
                .spawn_scoped(scope, move || accept(blocking, listener, index, scope))
                .inspect_err(|_| front.stop.now())?;
        }
        Ok(())
    })
}

fn accept<'scope, S>(
    blocking: &'scope Blocking<'_, S>,
    listener: Socket,
    index: usize,
    scope: &'scope Scope<'scope, '_>,
) where
    S: Service + Sync,
{
    let counters = blocking.front.totals.register();
    let mut witness = blocking.front.audience.witness("accept");
    while let Some((stream, peer)) = blocking.accept(&listener, index, &counters, &mut witness) {
        let address = peer.address;
        let spawned =
            thread::Builder::new().name("evmux-connection".into()).spawn_scoped(scope, move || {
                let counters = blocking.front.totals.register();
                let mut desk = blocking.desk("connection", &counters);
                blocking.serve(stream, &peer, &mut desk);
            });
        // The client goes with the thread that could not be made; the others are not harmed.
        if let Err(error) = spawned {
            blocking.left();
            counters.refused_other.increment();
            let problem = || format!("cannot serve {address}: no thread for it: {error}");
            blocking.front.gate.complain(blocking.now(), problem);
        }
    }
}
