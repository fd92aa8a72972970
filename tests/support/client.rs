//! A client that waits for everything it expects, but not for ever.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::{PATIENCE, assert_bytes};

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("reset while it connected")
    }

    /// A client of a server that may reset it before connect(2) returns.
    #[track_caller]
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => Some(Self::new(stream)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("cannot connect: {error}"),
        }
    }

    /// A client whose kernel takes a few kilobytes for it, and no more until it reads them.
    #[track_caller]
    pub(crate) fn with_small_buffer(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect_timeout(&address.into(), PATIENCE).unwrap();
        Self::new(socket.into())
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    /// The same connection, for another thread.
    #[track_caller]
    pub(crate) fn split(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap() }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            panic!("cannot send {} bytes: {error}", bytes.len());
        }
    }

    #[track_caller]
    pub(crate) fn send_urgent(&mut self, byte: u8) {
        assert_eq!(SockRef::from(&self.stream).send_out_of_band(&[byte]).unwrap(), 1);
    }

    /// Our FIN: nothing more will be sent.
    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Goes with a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    #[track_caller]
    pub(crate) fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut have = 0;
        while have < count {
            match self.stream.read(&mut bytes[have..]) {
                Ok(0) => panic!("the end after {have} of {count} bytes"),
                Ok(more) => have += more,
                Err(error) => panic!("after {have} of {count} bytes: {error}"),
            }
        }
        bytes
    }

    /// As [`receive`](Client::receive), in pieces of at most `piece` bytes with a pause between
    /// them: a peer that is slow.
    #[track_caller]
    pub(crate) fn receive_slowly(
        &mut self,
        count: usize,
        piece: usize,
        pause: Duration,
    ) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let next = piece.min(count - bytes.len());
            bytes.extend(self.receive(next));
            thread::sleep(pause); // Being slow takes time.
        }
        bytes
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        assert_bytes(&self.receive(bytes.len()), bytes);
    }

    /// Sends `bytes` to a server that echoes, and waits for them.
    #[track_caller]
    pub(crate) fn ask(&mut self, bytes: &[u8]) {
        self.send(bytes);
        self.expect(bytes);
    }

    /// Everything until the peer's end. A reset is a failure.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut bytes) {
            panic!("{} bytes, and then instead of the end: {error}", bytes.len());
        }
        bytes
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_bytes(&self.rest(), b"");
    }

    /// How many bytes came before the reset. An end in order is a failure.
    #[track_caller]
    pub(crate) fn until_reset(&mut self) -> usize {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => bytes.len(),
            other => panic!("{} bytes, and then no reset but {other:?}", bytes.len()),
        }
    }

    /// Waits for the end, in whatever way it comes.
    #[track_caller]
    pub(crate) fn until_gone(&mut self) -> usize {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("waited in vain for the end, after {} bytes", bytes.len())
            }
            _ => bytes.len(),
        }
    }
}
