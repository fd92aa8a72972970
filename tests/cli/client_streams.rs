//! `evmux client tcp`, `blocks` and `sixteen`: against our own services, and against servers that
//! do what servers should not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread::{self, JoinHandle};

use crate::binary::{Answered, PATIENCE, Process, Server, evmux, feed, free_address};
use crate::{MODELS, Scratch};

/// More than the buffers of both kernels hold together, in both directions.
const LARGE: usize = 8 << 20;

fn large() -> Vec<u8> {
    (0..LARGE).map(|index| (index % 251) as u8).collect()
}

/// A server for one client.
fn serve_one<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        serve(stream)
    });
    (address, served)
}

#[track_caller]
fn client(kind: &str, server: SocketAddr, words: &[&str], input: &[u8]) -> Answered {
    let server = server.to_string();
    feed(evmux(&[&["client", kind, &server], words].concat()), input)
}

// tcp

#[test]
fn a_message_is_answered_to_the_byte() {
    let server = Server::start(&["--service", "upper"]);
    assert_eq!(client("tcp", server.address, &["straße"], b"").ok(), "STRASSE".as_bytes());
    assert_eq!(client("tcp", server.address, &["-4"], b"").ok(), b"-4");
    assert_eq!(client("tcp", server.address, &["--", "--lines"], b"").ok(), b"--LINES");
    assert_eq!(client("tcp", server.address, &[""], b"not read").ok(), b"");
    assert_eq!(client("tcp", server.address, &[], b"from\0stdin\xff").ok(), b"FROM\0STDIN\xff");
}

#[test]
fn a_client_with_nothing_to_send_prints_what_a_server_says() {
    let hello = Server::start(&["--service", "hello", "--greeting", "Thank you for connecting"]);
    assert_eq!(client("tcp", hello.address, &[], b"").ok(), b"Thank you for connecting");
    let hello = Server::start(&["--service", "hello"]);
    assert_eq!(client("tcp", hello.address, &[], b"").ok(), b"Hello 127.0.0.1\n");
}

#[test]
fn the_servers_end_is_the_end_although_stdin_is_open() {
    let server = Server::start(&["--service", "hello"]);
    let mut command = evmux(&["client", "tcp", &server.address.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let stdin = process.stdin();
    assert_eq!(process.stdout().next().as_deref(), Some("Hello 127.0.0.1"));
    assert_eq!(process.status().code(), Some(0));
    drop(stdin);
}

#[test]
fn eight_megabytes_go_through_a_blocking_server_while_its_answer_comes() {
    let message = large();
    for model in MODELS {
        let server = Server::start(&["--service", "echo", "--model", model]);
        assert!(client("tcp", server.address, &[], &message).ok() == message, "{model}");
    }
}

#[test]
fn eight_megabytes_go_to_a_server_that_reads_all_before_it_answers() {
    let (address, served) = serve_one(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let message = large();
    assert!(client("tcp", address, &[], &message).ok() == message);
    served.join().unwrap();
}

#[test]
fn a_file_as_stdin_is_sent_whole() {
    let file = Scratch::file("stdin");
    std::fs::write(&file.0, large()).unwrap();
    let server = Server::start(&["--service", "echo"]);
    let script = "exec \"$0\" client tcp \"$1\" < \"$2\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_evmux")]);
    command.args([&server.address.to_string(), file.path()]);
    assert!(feed(command, b"").ok() == large());
}

#[test]
fn with_lines_a_line_is_sent_and_printed_when_it_is_whole() {
    let (address, served) = serve_one(|mut stream| {
        let mut line = [0; 100];
        let length = stream.read(&mut line).unwrap();
        assert_eq!(&line[..length], b"first\n");
        stream.write_all(b"FIRST\nSEC").unwrap();
        let length = stream.read(&mut line).unwrap();
        assert_eq!(&line[..length], b"second\n");
        stream.write_all(b"OND\nthe end").unwrap();
    });
    let mut command = evmux(&["client", "tcp", &address.to_string(), "--lines"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut stdin = process.stdin();
    let mut stdout = process.stdout();
    stdin.write_all(b"first\nsec").unwrap();
    assert_eq!(stdout.next().as_deref(), Some("FIRST"));
    stdin.write_all(b"ond\n").unwrap();
    assert_eq!(stdout.next().as_deref(), Some("SECOND"));
    assert_eq!(stdout.next().as_deref(), Some("the end"));
    assert_eq!(process.status().code(), Some(0));
    served.join().unwrap();

    let lines = Server::start(&["--service", "lines"]);
    assert_eq!(client("tcp", lines.address, &["one", "--lines"], b"").ok(), b"ONE\n");
}

#[test]
fn a_server_that_has_enough_is_no_failure() {
    let (address, served) = serve_one(|mut stream| {
        stream.read_exact(&mut [0; 10]).unwrap();
        stream.write_all(b"enough").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // What else comes is taken, so that no reset overtakes the answer.
        io::copy(&mut stream, &mut io::sink()).unwrap()
    });
    assert_eq!(client("tcp", address, &["a message of more than ten bytes"], b"").ok(), b"enough");
    assert_eq!(served.join().unwrap(), 22);
}

#[test]
fn a_reset_is_a_failure_after_what_had_come() {
    let (address, served) = serve_one(|mut stream| {
        stream.write_all(b"half an ans").unwrap();
        // It is on its way before the reset is.
        stream.read_exact(&mut [0; 1]).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    });
    let mut command = evmux(&["client", "tcp", &address.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut stdin = process.stdin();
    stdin.write_all(b"x").unwrap();
    served.join().unwrap();
    assert_eq!(process.status().code(), Some(1));
}

#[test]
fn nobody_there_and_no_such_host_are_one_line_and_status_1() {
    let nobody = free_address();
    for words in [
        &["client", "tcp", &nobody.to_string(), "x"][..],
        &["client", "blocks", &nobody.to_string(), "x"],
        &["client", "sixteen", &nobody.to_string()],
    ] {
        let line = feed(evmux(words), b"").failed();
        assert!(line.contains(&nobody.to_string()), "{line}");
        assert!(line.contains("refused"), "{line}");

        let words = [words[0], words[1], "nonexistent.invalid:1234", "x"];
        let words = if words[1] == "sixteen" { &words[..3] } else { &words[..] };
        let line = feed(evmux(words), b"").failed();
        let begin = "evmux: nonexistent.invalid: This host does not seem to exist (";
        assert!(line.starts_with(begin), "{line}");
    }
    let line = feed(evmux(&["client", "tcp", "localhost:no-such-service", "x"]), b"").failed();
    assert!(line.contains("there is no service 'no-such-service'"), "{line}");
}

#[test]
fn each_address_of_a_name_is_tried() {
    // The name has IPv6 first on most machines, IPv4 only on others: this server has one of both.
    let server = Server::start(&["--service", "upper"]);
    let name = format!("localhost:{}", server.address.port());
    assert_eq!(feed(evmux(&["client", "tcp", &name, "by name"]), b"").ok(), b"BY NAME");
    assert_eq!(feed(evmux(&["client", "tcp", &format!("tcp:{name}"), "x"]), b"").ok(), b"X");
}

#[test]
fn a_reader_that_went_away_ends_the_client_quietly() {
    let (address, served) = serve_one(|mut stream| {
        let endless = [b'x'; 1 << 16];
        while stream.write_all(&endless).is_ok() {}
    });
    let mut command = evmux(&["client", "tcp", &address.to_string()]);
    let (mut reader, writer) = io::pipe().unwrap();
    let (mut errors, stderr) = io::pipe().unwrap();
    command.stdin(Stdio::piped()).stdout(writer).stderr(stderr);
    let mut process = Process::spawn(command);
    let _stdin = process.stdin();
    reader.read_exact(&mut [0; 1000]).unwrap();
    drop(reader);
    assert_eq!(process.status().code(), Some(0));
    served.join().unwrap();
    let mut said = String::new();
    errors.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_full_disk_under_stdout_is_a_failure() {
    let server = Server::start(&["--service", "upper"]);
    let blocks = Server::start(&["--service", "blocks"]);
    for (kind, server) in [("tcp", server.address), ("blocks", blocks.address)] {
        let mut command = evmux(&["client", kind, &server.to_string(), "x"]);
        let (mut errors, stderr) = io::pipe().unwrap();
        command.stdout(File::options().write(true).open("/dev/full").unwrap()).stderr(stderr);
        assert_eq!(Process::spawn(command).status().code(), Some(1));
        let mut said = String::new();
        errors.read_to_string(&mut said).unwrap();
        assert!(said.contains("cannot write to stdout: No space left on device"), "{said}");
    }
}

#[test]
fn a_signal_ends_a_client_that_waits() {
    let (address, served) = serve_one(|mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
        stream
    });
    let mut command = evmux(&["client", "tcp", &address.to_string()]);
    command.stdin(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut stdin = process.stdin();
    stdin.write_all(b"x").unwrap();
    // It waits now for more, from both sides.
    let stream = served.join().unwrap();
    // Not SIGINT, which a shell has those ignore that it starts in the background.
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.status().code(), None, "the signal ends it");
    drop(stream);
}

// blocks

#[test]
fn each_block_is_answered_on_a_line() {
    let server = Server::start(&["--service", "blocks"]);
    let answer = client("blocks", server.address, &["first", "", "straße", "-4"], b"").ok();
    assert_eq!(answer, "FIRST\n\nSTRASSE\n-4\n".as_bytes());
}

#[test]
fn blocks_that_fill_every_buffer_are_answered() {
    // As much as the arguments of a program may hold, to a server that reads no more than it can
    // answer.
    let server = Server::start(&["--service", "blocks", "--send-buffer-limit", "1KiB"]);
    let message = "x".repeat(100_000);
    let answer = client("blocks", server.address, &[message.as_str(); 12], b"").ok();
    assert!(answer == format!("{}\n", "X".repeat(100_000)).repeat(12).as_bytes());
}

#[test]
fn blocks_are_what_struct_packs_and_come_in_any_pieces() {
    let (address, served) = serve_one(|mut stream| {
        let mut question = [0; 6 + 1238];
        stream.read_exact(&mut question).unwrap();
        assert_eq!(&question[..6], b"\0\0\0\x02hi");
        assert_eq!(question[6..10], [0x00, 0x00, 0x04, 0xd2]);
        stream.set_nodelay(true).unwrap();
        for byte in b"\0\0\0\x02HI\0\0\0\x00" {
            stream.write_all(&[*byte]).unwrap();
        }
        // It does not close: the client knows when it has everything.
        stream.read(&mut [0; 1]).unwrap()
    });
    let long = "x".repeat(1234);
    assert_eq!(client("blocks", address, &["hi", &long], b"").ok(), b"HI\n\n");
    served.join().unwrap();
}

#[test]
fn a_cut_answer_is_a_failure_after_the_whole_ones() {
    for (answer, printed, complaint) in [
        (&b"\0\0\0\x02HI\0\0\0\x05TH"[..], &b"HI\n"[..], "after 1 of 2 answers, 6 bytes into"),
        (b"", b"", "after 0 of 2 answers, 0 bytes into"),
        (b"\xff\xff\xff\xff", b"", "answer 1: 4294967295 bytes are more than the limit"),
        (b"HTTP/1.1 400", b"", "answer 1: 1213486160 bytes are more than the limit"),
    ] {
        let (address, served) = serve_one(move |mut stream| {
            stream.read_exact(&mut [0; 13]).unwrap();
            stream.write_all(answer).unwrap();
        });
        let answered = client("blocks", address, &["hi", "you"], b"");
        assert_eq!(answered.stdout, printed);
        let line = answered.failed();
        assert!(line.contains(complaint), "{line}");
        served.join().unwrap();
    }
}

// sixteen

#[test]
fn our_own_server_says_farewell() {
    let server = Server::start(&["--service", "sixteen"]);
    assert_eq!(client("sixteen", server.address, &[], b"").ok(), b"Farewell, client\n");
}

#[test]
fn sixteen_bytes_go_there_and_sixteen_come_back() {
    let (address, served) = serve_one(|mut stream| {
        let mut question = [0; 16];
        stream.read_exact(&mut question).unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in b"Farewell, client, and more" {
            // The client may have gone with its sixteen.
            let _ = stream.write_all(&[*byte]);
        }
        question
    });
    assert_eq!(client("sixteen", address, &[], b"").ok(), b"Farewell, client\n");
    assert_eq!(&served.join().unwrap(), b"Hi there, server");
}

#[test]
fn fewer_than_sixteen_bytes_are_a_failure() {
    let (address, served) = serve_one(|mut stream| {
        stream.read_exact(&mut [0; 16]).unwrap();
        stream.write_all(b"Fare").unwrap();
    });
    let answered = client("sixteen", address, &[], b"");
    assert_eq!(answered.stdout, b"");
    let line = answered.failed();
    assert!(line.contains("was expecting 16 bytes but only received 4"), "{line}");
    served.join().unwrap();
}
