//! `epoll` on several threads: one accepts, the others serve, each with its own connections.

use std::io;
use std::sync::Arc;
use std::thread;

use socket2::Socket;

use crate::front::epoll::Epoll;
use crate::front::readiness::{Crew, Readiness};
use crate::front::{Balance, Front};
use crate::handler::Service;
use crate::mailbox::{Mailbox, Queue};

/// Serves until the server is stopped and the last connection is over, with so many reactors
/// beside the thread that accepts.
pub(crate) fn run<S>(
    front: &Front<'_, S>,
    listeners: Vec<Socket>,
    reactors: usize,
    balance: Balance,
) -> io::Result<()>
where
    S: Service + Sync,
{
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
            let serve = move || {
                let counters = front.totals.register();
                let kernel = Epoll::new(front.origin, Vec::new(), front.stop, Some(queue))?;
                Readiness::<_, _>::new(front, kernel, &counters)
                    .serving_in(crew, number as u32)
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
            let kernel = Epoll::new(front.origin, listeners, front.stop, Some(&crew.acceptor))?;
            Readiness::<_, _>::new(front, kernel, &counters).accepting_for(crew).run()
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
