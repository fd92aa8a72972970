//! What may cross threads, and what must not: the compiler says so, or this does not compile.

use evmux::{Address, Connection, Handle, Handler, Limits, Local, Mailbox, Peer, Running};
use evmux::{Server, Snapshot, Stop, services};

fn crosses_threads<T: Send + Sync + 'static>() {}

fn moves_between_threads<T: Send + 'static>() {}

/// A type that is `Send` has two of these, and which one is meant cannot be told.
trait IsNotSend<A> {
    fn assert() {}
}
impl<T: ?Sized> IsNotSend<()> for T {}
impl<T: ?Sized + Send> IsNotSend<u8> for T {}

#[test]
fn what_speaks_to_a_server_from_elsewhere_crosses_threads() {
    crosses_threads::<Handle>();
    crosses_threads::<Stop>();
    crosses_threads::<Running>();
    crosses_threads::<Mailbox>();
    crosses_threads::<Snapshot>();
    crosses_threads::<Limits>();
    crosses_threads::<Address>();
    crosses_threads::<Peer>();
    moves_between_threads::<Server<fn(&Peer) -> services::Echo>>();
    crosses_threads::<Connection<services::Echo>>();
}

#[test]
fn what_asks_a_loop_for_something_stays_on_its_thread() {
    <Local<services::Echo> as IsNotSend<_>>::assert();
    <Local<Box<dyn Handler + Send>> as IsNotSend<_>>::assert();
}
