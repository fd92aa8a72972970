//! A server for one cell of the matrix, and clients that do not mind the transport.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use evmux::{Address, Handler, Limits, LocalAddress, Model, Peer, Running, Server};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::handlers::{Blocks, Echo, Flood, block, flood};
use crate::support::{PATIENCE, assert_bytes, pattern};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes as they come.
    Stream,
    /// Frames, each answered when it is whole.
    Framed,
    /// The server closes behind its answer.
    Closing,
}

#[derive(Clone, Copy, Debug)]
#[allow(non_camel_case_types)] // They are the modules' names.
pub(crate) enum Transport {
    tcp,
    unix,
}

/// A place in the matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) kind: Kind,
    pub(crate) model: Model,
    pub(crate) transport: Transport,
}

impl Cell {
    pub(crate) const MAX_FRAME: usize = 1000;

    /// A server for it, with limits of these tests.
    #[track_caller]
    pub(crate) fn serve(self, limits: impl FnOnce(Limits) -> Limits) -> Served {
        let make = match self.kind {
            Kind::Stream => |_: &Peer| Box::new(Echo) as Box<dyn Handler>,
            Kind::Framed => |_: &Peer| Box::new(Blocks) as Box<dyn Handler>,
            Kind::Closing => |_: &Peer| Box::new(Flood::default()) as Box<dyn Handler>,
        };
        serve(self.model, self.transport, make, limits)
    }

    /// What a client says, and what it must be answered: about `size` bytes.
    pub(crate) fn exchange(self, size: usize) -> (Vec<u8>, Vec<u8>) {
        let bytes = pattern(size);
        match self.kind {
            Kind::Stream => (bytes.clone(), bytes),
            Kind::Framed => {
                let blocks: Vec<u8> = bytes.chunks(Self::MAX_FRAME).flat_map(block).collect();
                (blocks.clone(), blocks)
            }
            Kind::Closing => (flood(size).into(), bytes),
        }
    }

    pub(crate) fn closes(self) -> bool {
        self.kind == Kind::Closing
    }
}

#[track_caller]
pub(crate) fn serve(
    model: Model,
    transport: Transport,
    make: fn(&Peer) -> Box<dyn Handler>,
    limits: impl FnOnce(Limits) -> Limits,
) -> Served {
    static FOLDERS: AtomicUsize = AtomicUsize::new(0);
    evmux::raise_descriptor_limit().unwrap();
    let (address, folder) = match transport {
        Transport::tcp => (Address::Tcp { host: "127.0.0.1".into(), port: 0 }, None),
        Transport::unix => {
            let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
            let name = format!("evmux-conformance-{}-{number}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder).unwrap();
            (Address::Unix(folder.join("socket")), Some(folder))
        }
    };
    let limits = limits(Limits::default().max_frame(Cell::MAX_FRAME));
    let server = Server::builder(make).model(model).limits(limits).listen(address);
    let running = server.build().unwrap().start().unwrap();
    Served { running: Some(running), model, folder }
}

/// A server in this process.
pub(crate) struct Served {
    running: Option<Running>,
    model: Model,
    folder: Option<PathBuf>,
}

impl Served {
    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        match &self.running().local_addresses()[0] {
            LocalAddress::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
                Client::new(socket)
            }
            address => {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                // The kernel takes a few kilobytes for a client, so that one may be slow.
                socket.set_recv_buffer_size(4096).unwrap();
                let address = address.socket_addr().unwrap();
                socket.connect_timeout(&address.into(), PATIENCE).unwrap();
                socket.set_tcp_nodelay(true).unwrap();
                Client::new(socket)
            }
        }
    }

    /// Waits for the end of a server that was stopped.
    #[track_caller]
    pub(crate) fn ended(mut self) {
        let counted = self.running.take().unwrap().join().unwrap();
        assert_eq!(counted.opened, counted.closed_in_all(), "{counted:?}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().now();
            if self.model.is_blocking() {
                // A thread that waits in accept(2) takes up to a second to see it.
                thread::spawn(move || running.join());
            } else if !thread::panicking() {
                running.join().unwrap();
            }
        }
        if let Some(folder) = &self.folder {
            // What is left of it is no reason to fail.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

pub(crate) struct Client(pub(crate) Socket);

impl Client {
    fn new(socket: Socket) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Goes with a reset: by the option of TCP, or with unread bytes.
    pub(crate) fn reset(self) {
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let mut received = vec![0; bytes.len()];
        self.0.read_exact(&mut received).unwrap();
        assert_bytes(&received, bytes);
    }

    /// As [`expect`](Client::expect), a kilobyte at a time with pauses.
    #[track_caller]
    pub(crate) fn expect_slowly(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8 * 1024) {
            self.expect(piece);
            thread::sleep(Duration::from_millis(1)); // Being slow takes time.
        }
    }

    /// Everything until the peer's end. A reset is a failure.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_bytes(&self.rest(), b"");
    }

    /// Sends `bytes` and finishes, while `meanwhile` receives: answers may be longer than what the
    /// kernel holds.
    pub(crate) fn send_all_while(&mut self, bytes: &[u8], meanwhile: impl FnOnce(&mut Self)) {
        let mut sender = Self(self.0.try_clone().unwrap());
        thread::scope(|scope| {
            scope.spawn(move || {
                sender.send(bytes);
                sender.finish();
            });
            meanwhile(self);
        });
    }
}
