//! `evmux client http`: pages from a server that is written out here, answer by answer.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use crate::Scratch;
use crate::binary::{PATIENCE, evmux, feed, free_address};

/// Serves one connection for each answer, and returns the heads of the requests.
fn serve(answers: Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            heads.push(String::from_utf8(head).unwrap());
            // A client that has enough may have gone.
            let _ = stream.write_all(&answer);
        }
        heads
    });
    (address, served)
}

fn one(answer: &[u8]) -> (String, JoinHandle<Vec<String>>) {
    let (address, served) = serve(vec![answer.to_vec()]);
    (format!("http://{address}/page?x=1"), served)
}

#[test]
fn a_page_is_printed_to_the_byte_however_it_is_framed() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na\0\xff\r\n"[..],
        b"HTTP/1.0 200 OK\r\n\r\na\0\xff\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na\0\xff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\0\r\n3\r\n\xff\r\n\r\n0\r\n\r\n",
    ] {
        let (url, served) = one(answer);
        assert_eq!(feed(evmux(&["client", "http", &url]), b"").ok(), b"a\0\xff\r\n");
        let heads = served.join().unwrap();
        assert!(heads[0].starts_with("GET /page?x=1 HTTP/1.1\r\n"), "{}", heads[0]);
    }
}

#[test]
fn a_page_is_written_to_a_file_and_nothing_is_printed() {
    let file = Scratch::file("page");
    fs::write(&file.0, "what was there before, which is longer").unwrap();
    let (url, _served) = one(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage");
    let answered = feed(evmux(&["client", "http", &url, "-o", file.path()]), b"");
    assert_eq!(answered.ok(), b"");
    assert_eq!(fs::read(&file.0).unwrap(), b"page");
}

#[test]
fn a_redirect_is_followed() {
    let (address, served) = serve(vec![
        b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthere".to_vec(),
    ]);
    let answered = feed(evmux(&["client", "http", &format!("http://{address}/here")]), b"");
    assert_eq!(answered.ok(), b"there");
    assert!(served.join().unwrap()[1].starts_with("GET /there "));
}

#[test]
fn a_page_that_is_not_there_is_a_failure_and_costs_no_file() {
    let file = Scratch::file("kept");
    fs::write(&file.0, "kept").unwrap();
    for (answer, said) in [
        (&b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope"[..], "404 Not Found"),
        (b"HTTP/1.1 500 Oh no\r\nContent-Length: 0\r\n\r\n", "500 Internal Server Error"),
    ] {
        let (url, _served) = one(answer);
        let answered = feed(evmux(&["client", "http", &url, "-o", file.path()]), b"");
        assert_eq!(answered.stdout, b"");
        let line = answered.failed();
        assert_eq!(line, format!("evmux: {url}: the server says {said}"));
        assert_eq!(fs::read(&file.0).unwrap(), b"kept");
    }
}

#[test]
fn a_page_that_is_cut_off_is_a_failure() {
    let (url, _served) = one(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    let answered = feed(evmux(&["client", "http", &url]), b"");
    assert_eq!(answered.stdout, b"half");
    let line = answered.failed();
    assert!(line.contains("the page was cut off"), "{line}");
}

#[test]
fn a_full_disk_and_a_folder_are_failures() {
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage";
    for (file, why) in [("/dev/full", "No space left"), ("/", "directory")] {
        let (url, _served) = one(page);
        let line = feed(evmux(&["client", "http", &url, "-o", file]), b"").failed();
        assert!(line.starts_with(&format!("evmux: cannot write {file}: ")), "{line}");
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn what_cannot_be_asked_is_one_line() {
    for url in [
        "https://127.0.0.1/",
        "HTTPS://x",
        "ftp://x",
        "127.0.0.1:80",
        "",
        "http://",
        "http:///path",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:x",
        "http://127.0.0.1:0/",
        "http://[::1/",
        "http://127.0.0.1/a b",
    ] {
        let answered = feed(evmux(&["client", "http", url]), b"");
        assert_eq!((answered.status, answered.stderr.lines().count()), (Some(2), 1), "{url}");
        if url.to_lowercase().starts_with("https") {
            assert!(answered.stderr.contains("https is not supported"), "{}", answered.stderr);
        }
    }
    let (url, _served) = one(b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\n\r\n");
    feed(evmux(&["client", "http", &url]), b"").failed();
    let (url, _served) = one(b"SSH-2.0-OpenSSH_9.2\r\n");
    feed(evmux(&["client", "http", &url]), b"").failed();
    let line = feed(evmux(&["client", "http", &format!("http://{}/", free_address())]), b"");
    assert!(line.failed().contains("does a server listen there?"));
    let line = feed(evmux(&["client", "http", "http://nonexistent.invalid/x"]), b"").failed();
    let begin = "evmux: nonexistent.invalid: This host does not seem to exist (";
    assert!(line.starts_with(begin), "{line}");
}
