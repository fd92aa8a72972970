//! How an embedder tests a protocol of its own in simulated worlds: `cargo run --example simulate
//! --features sim`. The same three lines make a test.
//!
//! The protocol is netstrings, `5:hello,`, and each is answered with its bytes in reverse.

use std::time::Duration;

use evmux::sim::{Client, Draw, Faults, Leaving, Reading, Script, Simulation, Writing, check};
use evmux::{Exchange, Flow, Handler, Peer, Violation};

struct Reverse;

impl Handler for Reverse {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        loop {
            // The peer may be slow to read what it asked for: no more is answered than fits.
            if exchange.to_send.is_full() {
                return Flow::Again;
            }
            let (length, head) = match length(&exchange.received) {
                Ok(Some(found)) => found,
                Ok(None) => return Flow::Continue,
                Err(violation) => return Flow::Refuse(violation),
            };
            if length > exchange.max_frame() {
                let limit = exchange.max_frame() as u64;
                return Flow::Refuse(Violation::TooLong { length: length as u64, limit });
            }
            let whole = head + length + 1;
            if exchange.received.len() < whole {
                return Flow::AtLeast(whole);
            }
            if exchange.received[whole - 1] != b',' {
                return Flow::Refuse(Violation::Malformed("a netstring ends with a comma"));
            }
            exchange.received[head..head + length].reverse();
            exchange.to_send.append_received(&mut exchange.received, whole);
        }
    }
}

/// What stands in front of the colon, and where the bytes begin; `None` if it is not there yet.
fn length(received: &[u8]) -> Result<Option<(usize, usize)>, Violation> {
    const MOST_DIGITS: usize = 9;
    let mut length = 0;
    for (index, byte) in received.iter().enumerate() {
        match byte {
            b'0'..=b'9' if index < MOST_DIGITS => length = length * 10 + usize::from(byte - b'0'),
            b':' if index > 0 => return Ok(Some((length, index + 1))),
            _ => return Err(Violation::Malformed("a netstring begins with its length")),
        }
    }
    Ok(None)
}

/// What a client may say, and what it must be answered. Made without the codec, so that the one is
/// a test of the other.
fn conversation(draw: &mut Draw) -> Script {
    let mut script = Script::new();
    for _ in 0..draw.between(0..=12) {
        let length = draw.between(0..=30);
        let bytes = draw.bytes(length);
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        script = script.says(&netstring(&bytes), &netstring(&reversed));
    }
    if draw.one_in(4) {
        // Refused at its length; what was asked before is answered all the same.
        return script.says(b"999999999:", b"").says(b"1:a,", b"").server_closes();
    }
    script
}

fn netstring(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes, b","].concat()
}

fn main() {
    let service = |_: &Peer| Reverse;

    // Thousands of worlds. One that fails is printed, with its seed.
    let counted = check(service, 0..2000, conversation);
    println!("2000 worlds: {} connections, {} bytes", counted.opened, counted.bytes_received);
    for (reason, count) in counted.closed_by_label().filter(|(_, count)| *count > 0) {
        println!("  {reason}: {count}");
    }

    // One world, all of it said: a client that trickles and reads slowly, beside one that goes.
    let script = Script::new().says(b"5:hello,", b"5:olleh,").says(b"3:abc,", b"3:cba,");
    let slow = Client::new(script.clone())
        .writing(Writing::Trickle)
        .reading(Reading::Slow)
        .buffers(4, 4)
        .leaving(Leaving::FinishLast);
    let gone = Client::new(script).leaving(Leaving::Vanish(12)).begins(Duration::from_millis(5));
    let report = Simulation::new(service)
        .faults(Faults::none())
        .client(slow)
        .client(gone)
        .run()
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.answers(0), b"5:olleh,3:cba,");
    println!("one world: {} turns in {:?} of its time", report.turns(), report.elapsed());
}
