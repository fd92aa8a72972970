//! The load generator, held against servers whose faults are known.

mod faults;
mod served;
mod timing;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use evmux::load::{self, LoadError, Outcome, Plan, Until};
use socket2::{Domain, Socket, Type};

/// A plan that is done soon: so many requests, no warm-up.
fn plan(target: &str, requests: u64) -> Plan {
    let mut plan = Plan::new(target.parse().expect("an address"));
    plan.connections = 4;
    plan.until = Until::Requests(requests);
    plan.warmup = Duration::ZERO;
    // A machine that is ten times slower has time enough.
    plan.timeout = Duration::from_secs(30);
    plan
}

#[track_caller]
fn run(plan: &Plan) -> Outcome {
    load::run(plan, &mut ()).unwrap_or_else(|error| panic!("{error}"))
}

/// Starts a thread for each connection, which `serve` is called on. Both end with the process.
fn server<F>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> io::Result<()> + Send + Clone + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.set_nodelay(true);
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

#[test]
fn a_server_that_is_not_there_is_an_error_that_names_it() {
    // Bound and not listening: nobody else's server gets the port meanwhile.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let nobody = socket.local_addr().unwrap().as_socket().unwrap();
    let error = load::run(&plan(&nobody.to_string(), 1), &mut ()).unwrap_err();
    assert!(matches!(error, LoadError::Unreachable { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot connect to tcp:{nobody}: ")), "{error}");
}

#[test]
fn a_plan_that_makes_no_sense_is_not_begun() {
    let mut plan = plan("127.0.0.1:9", 1);
    plan.pipeline = 0;
    let error = load::run(&plan, &mut ()).unwrap_err();
    assert_eq!(error.to_string(), "pipeline must be at least 1");
}
