//! Unix stream sockets: the same service at a path, and whose file that is.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use evmux::{Address, Error, LocalAddress, Model, Peer, PeerAddress, Running, Server, services};

use crate::support::{PATIENCE, assert_bytes, pattern};

every_front_end! {
    a_client_at_a_path_is_served_and_the_file_goes_with_the_server,
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("evmux-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serve_at(path: &Path, model: Model) -> Result<Running, Error> {
    let service = |peer: &Peer| {
        assert_eq!(peer.address, PeerAddress::Unix);
        services::echo(peer)
    };
    Server::builder(service).model(model).listen(Address::Unix(path.into())).build()?.start()
}

#[track_caller]
fn ask(path: &Path, bytes: &[u8]) {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = client.try_clone().unwrap();
    let sent = bytes.to_vec();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_bytes(&answer, bytes);
    writing.join().unwrap();
}

#[track_caller]
fn refused(path: &Path) -> io::Error {
    match serve_at(path, Model::Epoll) {
        Err(Error::Listen { address, source }) => {
            assert_eq!(address, format!("unix:{}", path.display()));
            source
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    }
}

fn a_client_at_a_path_is_served_and_the_file_goes_with_the_server(model: Model) {
    let folder = Folder::new(&format!("served-{model}"));
    let running = serve_at(&folder.path(), model).unwrap();
    assert_eq!(running.local_addresses(), [LocalAddress::Unix(folder.path())]);
    ask(&folder.path(), b"hello");
    ask(&folder.path(), &pattern(3_000_000));
    running.stop().drain();
    assert_eq!(running.join().unwrap().opened, 2);
    assert!(!folder.path().exists());
}

#[test]
fn a_path_that_a_dead_server_left_behind_is_taken_over() {
    let folder = Folder::new("stale");
    drop(UnixListener::bind(folder.path()).unwrap());
    assert!(folder.path().exists(), "nobody removes it");
    let running = serve_at(&folder.path(), Model::Epoll).unwrap();
    ask(&folder.path(), b"hello");
    drop(running);
    assert!(!folder.path().exists());
}

#[test]
fn a_path_at_which_a_server_listens_is_left_to_it() {
    let folder = Folder::new("live");
    let running = serve_at(&folder.path(), Model::Epoll).unwrap();
    assert_eq!(refused(&folder.path()).kind(), io::ErrorKind::AddrInUse);
    ask(&folder.path(), b"still served");
    drop(running);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = Folder::new("file");
    fs::write(folder.path(), "precious").unwrap();
    assert_eq!(refused(&folder.path()).kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(folder.path()).unwrap(), "precious");

    // Nor is what a link leads to.
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(folder.path(), &link).unwrap();
    assert_eq!(refused(&link).kind(), io::ErrorKind::AlreadyExists);
    assert!(link.is_symlink());
}

#[test]
fn a_server_that_is_built_and_never_run_leaves_no_file_behind() {
    let folder = Folder::new("unrun");
    let address = Address::Unix(folder.path());
    let server = Server::builder(services::echo).listen(address).build().unwrap();
    assert!(folder.path().exists());
    drop(server);
    assert!(!folder.path().exists());
}

#[test]
fn the_file_of_another_server_is_not_removed() {
    let folder = Folder::new("another");
    let first = serve_at(&folder.path(), Model::Epoll).unwrap();
    fs::remove_file(folder.path()).unwrap();
    let second = serve_at(&folder.path(), Model::Epoll).unwrap();
    drop(first);
    ask(&folder.path(), b"served by the second");
    drop(second);
    assert!(!folder.path().exists());
}

#[test]
fn a_listener_that_was_handed_in_keeps_its_file() {
    let folder = Folder::new("adopted");
    let listener = UnixListener::bind(folder.path()).unwrap();
    let server = Server::builder(services::echo).unix_listener(listener).build().unwrap();
    let running = server.start().unwrap();
    ask(&folder.path(), b"hello");
    drop(running);
    assert!(folder.path().exists());
}
