//! A client may connect as soon as the server listens, before anything is served: what listeners
//! hand down to connections was not set then.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use evmux::services::echo;
use evmux::{Model, Server};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_client_that_came_before_the_serving_began_does_not_keep_the_server_from_stopping() {
    for model in Model::ALL {
        let server = Server::builder(echo).model(model).listen("127.0.0.1:0").build().unwrap();
        let address = server.local_addresses()[0].socket_addr().unwrap();
        let mut early = TcpStream::connect(address).unwrap();
        early.set_read_timeout(Some(PATIENCE)).unwrap();

        let running = server.start().unwrap();
        early.write_all(b"early").unwrap();
        early.read_exact(&mut [0; 5]).unwrap();
        let (sender, ended) = mpsc::channel();
        running.stop().now();
        thread::spawn(move || sender.send(running.join().is_ok()));
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(true), "{model}");
    }
}
