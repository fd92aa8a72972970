//! `--admin` and `--drain-delay`: the server seen from outside, while it serves and while it ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::MODELS;
use crate::binary::{Ended, PATIENCE, Server, connect, evmux, evmux_after, read_to_end, run};

/// A server, and where its admin page is.
struct Watched {
    server: Server,
    admin: SocketAddr,
}

impl Watched {
    #[track_caller]
    fn start(arguments: &[&str]) -> Self {
        Self::of(Server::start(&[&["--admin", "127.0.0.1:0"], arguments].concat()))
    }

    #[track_caller]
    fn of(mut server: Server) -> Self {
        let line = server.next_line();
        let admin = line.strip_prefix("evmux: admin on http://").and_then(|rest| rest.parse().ok());
        let admin = admin.unwrap_or_else(|| panic!("{line:?} does not say where"));
        Self { server, admin }
    }

    #[track_caller]
    fn get(&self, path: &str) -> Answer {
        self.request("GET", path)
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str) -> Answer {
        let mut stream = connect(self.admin);
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        Answer::of(stream)
    }

    /// The value of a metric, as the lines name it.
    #[track_caller]
    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.parse().expect("a number")
    }

    /// Waits until `holds`, since what is counted may be a moment behind what a client has seen.
    #[track_caller]
    fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what} never came about");
            // Nothing tells when a counter changes.
            thread::sleep(Duration::from_millis(20));
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn of(stream: TcpStream) -> Self {
        let text = String::from_utf8(read_to_end(stream)).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Self { status: status.expect("a status"), head: head.into(), body: body.into() }
    }
}

#[test]
fn the_metrics_add_up_with_what_the_clients_did() {
    for model in MODELS {
        let watched = Watched::start(&["--model", model]);
        for word in [&b"one"[..], b"three", b"sixteen octets.."] {
            assert_eq!(watched.server.ask(word), word.to_ascii_uppercase(), "{model}");
        }
        watched.wait_until("the end of the last client", |watched| {
            watched.metric("evmux_connections_closed_total{reason=\"finished\"}") == 3.0
        });
        for (name, value) in [
            ("evmux_connections_accepted_total", 3.0),
            ("evmux_connections_opened_total", 3.0),
            ("evmux_connections_open", 0.0),
            ("evmux_connections_closed_total{reason=\"reset\"}", 0.0),
            ("evmux_connections_refused_total{reason=\"limit\"}", 0.0),
            ("evmux_received_bytes_total", 24.0),
            ("evmux_sent_bytes_total", 24.0),
            ("evmux_send_calls_total", 3.0),
            ("evmux_waiting_bytes", 0.0),
            ("evmux_ready", 1.0),
        ] {
            assert_eq!(watched.metric(name), value, "{model}: {name}");
        }
        let about = format!("evmux_build_info{{version=\"{}\",", env!("CARGO_PKG_VERSION"));
        let about = format!("{about}service=\"upper\",model=\"{model}\"}}");
        assert_eq!(watched.metric(&about), 1.0);
        assert!(watched.metric("process_open_fds") > 3.0);
        assert_eq!(watched.server.end(Signal::TERM).status.code(), Some(0), "{model}");
    }
}

#[test]
fn a_loop_that_is_stuck_is_ill_and_a_thread_that_works_is_not() {
    let watched = |model| {
        let watched = Watched::start(&["--service", "busy", "--busy", "1h", "--model", model]);
        assert_eq!(watched.get("/healthz").status, 200, "{model}: an idle server is well");
        let mut stream = watched.server.connect();
        stream.write_all(b"a line\n").unwrap();
        watched.wait_until("its work", |watched| watched.metric("evmux_receive_calls_total") > 0.0);
        (watched, stream)
    };
    let ((threads, _one), (epoll, _other)) = (watched("threads"), watched("epoll"));
    epoll.wait_until("its illness", |watched| watched.get("/healthz").status == 503);
    let why = epoll.get("/healthz").body;
    assert!(why.starts_with("a serving loop left its wait "), "{why}");
    assert!(epoll.metric("evmux_longest_turn_seconds") > 5.0);
    // Nor does the page wait for what the loop cannot say.
    let data: Value = serde_json::from_str(&epoll.get("/data.json").body).unwrap();
    assert!(data["ill"].is_string(), "{data}");
    assert_eq!(data["connections"].as_array().map(Vec::len), Some(0), "{data}");
    assert_eq!(threads.get("/healthz").status, 200);
    assert_eq!(threads.metric("evmux_longest_turn_seconds"), 0.0);
}

#[test]
fn during_the_drain_delay_clients_are_served_and_none_is_wanted() {
    for model in MODELS {
        let mut watched = Watched::start(&["--drain-delay", "1h", "--model", model]);
        assert_eq!(watched.get("/readyz").status, 200, "{model}");
        watched.server.process.signal(Signal::TERM);
        watched.server.wait_for_log("SIGTERM: draining after another 1h");
        let answer = watched.get("/readyz");
        assert_eq!(answer.status, 503, "{model}");
        assert!(answer.body.contains("about to end"), "{}", answer.body);
        assert_eq!(watched.get("/healthz").status, 200, "{model}: it is well all the same");
        assert_eq!(watched.metric("evmux_ready"), 0.0);
        assert_eq!(watched.server.ask(b"late"), b"LATE", "{model}");
        watched.server.process.signal(Signal::TERM);
        assert_eq!(watched.server.wait().status.code(), Some(143), "{model}");
    }
}

#[test]
fn after_the_drain_delay_the_server_drains() {
    let delay = Duration::from_millis(300);
    let server = Server::start(&["--drain-delay", "300ms"]);
    let began = Instant::now();
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));
    assert!(began.elapsed() >= delay);
}

#[test]
fn the_admin_page_answers_until_the_last_client_is_served() {
    let mut watched = Watched::start(&["--service", "lines", "--drain-timeout", "10m"]);
    let mut stream = watched.server.connect();
    stream.write_all(b"whole\nbegun").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    watched.server.process.signal(Signal::TERM);
    watched.server.wait_for_log("draining");
    watched.wait_until("the drain", |watched| watched.get("/data.json").body.contains("draining"));
    assert_eq!(watched.get("/readyz").status, 503);
    assert_eq!(watched.metric("evmux_connections_open"), 1.0);
    stream.write_all(b" and ended\n").unwrap();
    assert_eq!(read_to_end(stream), b"BEGUN AND ENDED\n");
    assert_eq!(watched.server.wait().status.code(), Some(0));
}

#[test]
fn a_head_is_answered_without_a_body_and_what_is_not_there_is_said_to_be_so() {
    let watched = Watched::start(&[]);
    let head = watched.request("HEAD", "/metrics");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{}", head.head);
    assert!(!head.head.contains("\r\nContent-Length: 0\r\n"), "{}", head.head);
    assert_eq!(watched.get("/nothing").status, 404);
    assert_eq!(watched.get("/metrics/../healthz").status, 404);
    assert_eq!(watched.get("/healthz?verbose").status, 200);
    for method in ["POST", "DELETE", "BREW"] {
        let answer = watched.request(method, "/metrics");
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("\r\nAllow: GET, HEAD\r\n"), "{}", answer.head);
    }
    for path in ["/metrics", "/nothing", "/data.json"] {
        let head = watched.get(path).head;
        assert!(head.contains("\r\nContent-Security-Policy: default-src 'none';"), "{head}");
        assert!(head.contains("\r\nX-Content-Type-Options: nosniff"), "{head}");
    }
}

#[test]
fn bad_http_on_the_admin_page_harms_nobody() {
    let watched = Watched::start(&[]);
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
        &[b'x'; 100_000],
        b"GET /metrics HTTP/1.1\r\n",
    ] {
        let mut stream = connect(watched.admin);
        // It may have been refused before its end.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
        assert!(refused, "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(watched.get("/healthz").status, 200);
    assert_eq!(watched.server.ask(b"well"), b"WELL");
    // None of it was a client of the service.
    assert_eq!(watched.metric("evmux_connections_accepted_total"), 1.0);
}

#[test]
fn a_page_whose_name_was_made_to_lead_here_learns_nothing() {
    let watched = Watched::start(&[]);
    for path in ["/data.json", "/metrics", "/"] {
        let mut stream = connect(watched.admin);
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example:80\r\n");
        stream.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(Answer::of(stream).status, 403, "{path}");
    }
}

#[test]
fn the_pages_are_answered_when_clients_have_every_descriptor_that_is_theirs() {
    let words = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let watched = Watched::of(Server::spawn(evmux_after("ulimit -n 64", &words)));
    let clients: Vec<_> = (0..40).map(|_| watched.server.connect()).collect();
    let refused = "evmux_connections_refused_total{reason=\"limit\"}";
    watched.wait_until("a refusal", |watched| watched.metric(refused) == 8.0);
    assert_eq!(watched.metric("evmux_connections_open"), 32.0);
    assert_eq!(watched.metric("process_max_fds"), 64.0);
    assert!(watched.metric("process_open_fds") >= 32.0);
    assert_eq!(watched.get("/healthz").status, 200);
    drop(clients);
}

#[test]
fn a_slow_reader_stands_at_the_top_of_the_table_with_its_queue() {
    for model in ["threads", "poll", "epoll"] {
        let watched = Watched::start(&["--service", "echo", "--model", model]);
        let _others: Vec<_> = (0..30).map(|_| watched.server.connect()).collect();
        let mut slow = watched.server.connect();
        let name = slow.local_addr().unwrap().to_string();
        slow.set_nonblocking(true).unwrap();
        let block = [b'x'; 1 << 16];
        watched.wait_until("the slow reader at the top", |watched| {
            // As much as fits, and nothing is read.
            while slow.write(&block).is_ok() {}
            let data: Value = serde_json::from_str(&watched.get("/data.json").body).unwrap();
            let top = &data["connections"][0];
            top["peer"] == name.as_str()
                && top["stage"] == "paused"
                && top["queued"].as_u64() > Some(0)
                // It goes on for a moment whenever the kernel finds room for more.
                && data["counted"]["paused"] == 1
        });
        let data: Value = serde_json::from_str(&watched.get("/data.json").body).unwrap();
        assert_eq!(data["connections"].as_array().map(Vec::len), Some(20), "{model}");
        assert_eq!(data["counted"]["open"], 31, "{model}");
        assert!(watched.metric("evmux_waiting_bytes") > 0.0, "{model}");
        drop(slow);
    }
}

#[test]
fn who_opens_the_page_to_others_is_told_so() {
    let words = ["serve", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"];
    let mut server = Server::spawn(evmux(&words));
    server.wait_for_log("can be read by whoever reaches that address");
    assert_eq!(server.end(Signal::TERM).status.code(), Some(0));
}

#[test]
fn an_address_that_is_taken_or_not_tcp_is_refused_before_anything_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, code) in
        [(taken.as_str(), 1), ("udp:127.0.0.1:0", 2), ("unix:/tmp/x", 2), ("9090", 2)]
    {
        let command = evmux(&["serve", "--listen", "127.0.0.1:0", "--admin", address]);
        let Ended { status, stdout, stderr } = run(command);
        assert_eq!(status.code(), Some(code), "{address}: {stderr}");
        assert_eq!(stdout, "", "{address}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("evmux: ") && stderr.contains(address), "{stderr}");
    }
}
