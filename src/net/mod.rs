//! Where connections come from: addresses as people write them, and the sockets that listen there.

pub(crate) mod acceptor;
pub(crate) mod address;
pub(crate) mod datagram;
pub(crate) mod listener;
pub(crate) mod stream;
pub(crate) mod unix;
