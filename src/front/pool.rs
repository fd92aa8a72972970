//! A fixed number of threads, each of which accepts a client, serves it to the end, and accepts the
//! next. A client that finds them all busy waits in the backlog.

use std::io;
use std::thread;

use log::warn;
use socket2::Socket;

use crate::front::Front;
use crate::front::blocking::Blocking;
use crate::handler::Service;

/// Serves until the server is stopped and the last connection is over; `threads` at each listener.
pub(crate) fn run<S>(front: &Front<'_, S>, listeners: Vec<Socket>, threads: usize) -> io::Result<()>
where
    S: Service + Sync,
{
    let blocking = &Blocking::new(front, &listeners)?;
    thread::scope(|scope| {
        for (index, listener) in listeners.iter().enumerate() {
            for number in 0..threads {
                let spawned = thread::Builder::new()
                    .name(format!("evmux-pool-{index}-{number}"))
                    .spawn_scoped(scope, move || work(blocking, listener, index));
                match spawned {
                    Ok(_) => {}
                    Err(error) if number > 0 => {
                        warn!("{number} of {threads} threads are there: {error}");
                        break;
                    }
                    Err(error) => {
                        front.stop.now();
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    })
}

fn work<S: Service>(blocking: &Blocking<'_, S>, listener: &Socket, index: usize) {
    let counters = blocking.front.totals.register();
    let mut desk = blocking.desk("pool", &counters);
    blocking.serve_at(listener, index, &counters, &mut desk);
}
