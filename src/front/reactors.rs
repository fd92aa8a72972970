//! `epoll` on several threads: one accepts, the others serve, each with its own connections.

use std::io;
use std::sync::Arc;
use std::thread;

use crate::front::epoll::Epoll;
use crate::front::readiness::{Crew, Readiness};
use crate::front::{Balance, Front, Sockets};
use crate::handler::Service;
use crate::mailbox::{Mailbox, Queue};

/// Serves until the server is stopped and the last connection is over, with so many reactors
/// beside the thread that accepts.
pub(crate) fn run<S>(
    front: &Front<'_, S>,
    sockets: Sockets,
    reactors: usize,
    balance: Balance,
) -> io::Result<()>
where
    S: Service + Sync,
{
    let Sockets { listeners, mut datagrams } = sockets;
    let queues = match front.mailbox {
        Some(mailbox) => mailbox.queues.clone(),
        None => Mailbox::with(reactors, Mailbox::CAPACITY)?.queues,
    };
    let acceptor = Arc::new(Queue::new(Mailbox::CAPACITY)?);
    let crew = &Crew::new(queues.iter().cloned(), acceptor, balance);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut started = Ok(());
        for (number, queue) in queues.iter().enumerate() {
            // They belong to the first reactor alone; the one that accepts has no handlers.
            let (udp, handlers) = std::mem::take(&mut datagrams).into_iter().unzip();
            let serve = move || {
                let counters = front.totals.register();
                let (none, queue) = (Vec::new(), Some(queue.as_ref()));
                let kernel = Epoll::new(front.origin, none, udp, front.stop, queue)?;
                Readiness::<_, _>::new(front, kernel, &counters)
                    .serving_in(crew, number as u32)
                    .named(&format!("reactor {number}"))
                    .with_datagrams(handlers)
                    .run()
            };
            // A server of which a part is dead must not look alive.
            let serve = move || serve().inspect_err(|_| front.stop.now());
            let name = format!("evmux-reactor-{number}");
            match thread::Builder::new().name(name).spawn_scoped(scope, serve) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    front.stop.now();
                    started = Err(error);
                    break;
                }
            }
        }
        let accepted = started.and_then(|()| {
            let counters = front.totals.register();
            let (none, queue) = (Vec::new(), Some(crew.acceptor.as_ref()));
            let kernel = Epoll::new(front.origin, listeners, none, front.stop, queue)?;
            Readiness::<_, _>::new(front, kernel, &counters)
                .accepting_for(crew)
                .named("acceptor")
                .run()
        });
        if accepted.is_err() {
            front.stop.now();
        }
        crew.accepting_is_over();
        for thread in threads {
            match thread.join() {
                Ok(served) => served?,
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
        accepted
    })
}
