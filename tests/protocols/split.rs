//! Where the network cuts a message is nobody's business: one message of each kind, cut at every
//! byte, at every two bytes, and into single bytes, is answered as the whole is.

use evmux::services::{blocks, lines, sixteen, upper};
use evmux::{CloseReason, Peer, PeerAddress, Service};

use crate::talk::Talk;

/// Letters that grow, shrink and keep their length, in one to four bytes, and bytes that are none.
const TEXT: &str = "aß ŉ ﬁ ΐ ǆ 漢 🦀𐐨.";

fn peer() -> Peer {
    Peer::new(PeerAddress::Unix, 0)
}

/// What is heard when the message arrives in these pieces, and how it ends.
fn heard<'b>(
    service: &impl Service,
    pieces: impl IntoIterator<Item = &'b [u8]>,
) -> (Vec<u8>, CloseReason) {
    let mut talk = Talk::new(service.handler(&peer()));
    for piece in pieces {
        talk.say(piece);
    }
    let reason = talk.reason();
    (talk.heard().to_vec(), reason)
}

/// Asserts that `seen` makes the same of every answer, however the message was cut, and returns
/// that.
#[track_caller]
fn same_however_cut<T: PartialEq + std::fmt::Debug>(
    service: impl Service,
    message: &[u8],
    seen: impl Fn(&[u8]) -> T,
) -> T {
    let (answer, reason) = heard(&service, [message]);
    let whole = (seen(&answer), reason);
    let judge = |(answer, reason): (Vec<u8>, CloseReason), how: &str| {
        assert_eq!((seen(&answer), reason), whole, "cut {how}");
    };
    for first in 0..=message.len() {
        for second in first..=message.len() {
            let pieces = [&message[..first], &message[first..second], &message[second..]];
            judge(heard(&service, pieces), &format!("at {first} and {second}"));
        }
    }
    judge(heard(&service, message.chunks(1)), "at every byte");
    whole.0
}

#[test]
fn a_text_cut_at_any_bytes_is_answered_as_the_whole() {
    let message = [TEXT.as_bytes(), b"\xff\xc3(\xed\xa0\x80 \xf0\x9f"].concat();
    let answer = same_however_cut(upper, &message, <[u8]>::to_vec);
    assert!(answer.starts_with(TEXT.to_uppercase().as_bytes()));
}

#[test]
fn lines_cut_at_any_bytes_are_answered_as_the_whole() {
    let message = format!("{TEXT}\r\n\n{TEXT}");
    let answer = same_however_cut(lines, message.as_bytes(), <[u8]>::to_vec);
    assert_eq!(answer, message.to_uppercase().into_bytes());
}

#[test]
fn blocks_cut_at_any_bytes_are_answered_as_the_whole() {
    let block =
        |payload: &str| [&(payload.len() as u32).to_be_bytes(), payload.as_bytes()].concat();
    let message = [block(TEXT), block(""), block("x")].concat();
    let answer = same_however_cut(blocks, &message, <[u8]>::to_vec);
    assert_eq!(answer, [block(&TEXT.to_uppercase()), block(""), block("X")].concat());
    // The last one is cut short by the end.
    same_however_cut(blocks, &message[..message.len() - 1], <[u8]>::to_vec);
}

#[test]
fn sixteen_octets_cut_at_any_bytes_are_answered_as_the_whole() {
    for message in [&b"Hi there, server"[..], b"Hi there, server, and more", b"too few"] {
        same_however_cut(sixteen, message, <[u8]>::to_vec);
    }
}

#[cfg(feature = "json")]
#[test]
fn json_cut_at_any_bytes_is_answered_as_the_whole() {
    let message = format!("{{\"{TEXT}\": [\"{TEXT}\", 1.0]}}\r\n[\nnull");
    let answer = same_however_cut(evmux::services::json, message.as_bytes(), <[u8]>::to_vec);
    let expected = format!("{{\"{TEXT}\": [\"{}\", 1.0]}}\r\n", TEXT.to_uppercase());
    assert!(answer.starts_with(expected.as_bytes()));
}

#[cfg(feature = "zlib")]
#[test]
fn input_for_zlib_cut_at_any_bytes_is_compressed_to_the_same_input() {
    use std::io::Read;

    let message = format!("{TEXT}{TEXT}");
    let inflated = |stream: &[u8]| {
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(stream).read_to_end(&mut bytes).expect("a whole stream");
        bytes
    };
    let answer = same_however_cut(evmux::services::zlib, message.as_bytes(), inflated);
    assert_eq!(answer, message.into_bytes());
}

#[cfg(feature = "xmlrpc")]
#[test]
fn calls_cut_at_any_bytes_are_answered_as_the_whole() {
    use std::io::Read;

    use evmux::services::{Registry, xmlrpc};

    let call = "<methodCall><methodName>upper</methodName><params><param><value>\u{df}</value>\
                </param></params></methodCall>";
    let mut packed = Vec::new();
    let mut packer = flate2::read::GzEncoder::new(call.as_bytes(), flate2::Compression::best());
    packer.read_to_end(&mut packed).expect("memory can be read");
    let body = |headers: &str, body: &[u8]| {
        let head = format!("POST / HTTP/1.1\n{headers}Content-Length: {}\n\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let (first, second) = call.split_at(70);
    let chunked = format!(
        "POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n{:x};a\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\
         B: c\r\n\r\n",
        first.len(),
        second.len()
    );
    for message in [
        body("", call.as_bytes()),
        body("Content-Encoding: gzip\n", &packed),
        chunked.into_bytes(),
        b"GET / HTTP/1.0\n\n".to_vec(),
        b"POST / HTTP/1.1\nContent-Length: 2\nContent-Length: 2\n\nhi".to_vec(),
        body("", &call.as_bytes()[..50]),
    ] {
        let answer =
            same_however_cut(xmlrpc(Registry::standard()), &message, |answer| answer.to_vec());
        assert!(answer.starts_with(b"HTTP/1.1 "));
    }
}
