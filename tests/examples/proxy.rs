//! The proxy passes on every byte and each end, at the pace of the slower side, and holds little.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::running::{Example, PATIENCE, connect};

/// 50 MB, at 10 MB/s.
const LENGTH: usize = 50_000_000;
const PIECE: usize = 250_000;
const PAUSE: Duration = Duration::from_millis(25);

/// The answer, behind the end of the question.
const ANSWER: usize = 5_000_000;

#[test]
fn proxy_passes_on_fifty_megabytes_at_the_pace_of_the_reader_and_the_end_behind_them() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap().to_string();
    let example = Example::start_with("proxy", &["127.0.0.1:0", &address]);

    let reader = thread::spawn(move || {
        let (mut stream, _) = upstream.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let began = Instant::now();
        let came = Bytes::expect_to_the_end(&mut stream, |place| {
            // A reader that is slow takes its time: this is what is tested.
            let due = PAUSE * (place / PIECE) as u32;
            thread::sleep(due.saturating_sub(began.elapsed()));
        });
        assert_eq!(came, LENGTH);
        // The client has finished, and hears all the same.
        Bytes::default().send(&mut stream, ANSWER);
    });

    let mut client = connect(example.address);
    Bytes::default().send(&mut client, LENGTH);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(Bytes::expect_to_the_end(&mut client, |_| ()), ANSWER);
    reader.join().unwrap();

    let (memory, time) = (example.peak_memory(), example.processor_time());
    assert!(memory < 10 * 1024, "the proxy had {memory} KiB");
    assert!(time < Duration::from_secs(2), "the proxy used {time:?} of the processor");
}

#[test]
fn proxy_closes_a_client_whose_server_is_not_there() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let example = Example::start_with("proxy", &["127.0.0.1:0", &nobody]);
    let mut client = example.connect();
    client.hear_last("");
}

/// Bytes that follow from their place and do not repeat within what a buffer holds, so that one
/// that is lost, doubled or moved is seen.
#[derive(Default)]
struct Bytes {
    place: usize,
}

impl Bytes {
    fn at(place: usize) -> u8 {
        (place.wrapping_mul(0x9e37_79b9) >> 24) as u8
    }

    #[track_caller]
    fn send(mut self, stream: &mut impl Write, length: usize) {
        while self.place < length {
            let end = length.min(self.place + PIECE);
            let piece: Vec<u8> = (self.place..end).map(Self::at).collect();
            stream.write_all(&piece).unwrap();
            self.place = end;
        }
    }

    /// How many came before the end. `pause` is told of each piece.
    #[track_caller]
    fn expect_to_the_end(stream: &mut impl Read, pause: impl Fn(usize)) -> usize {
        let mut expected = Self::default();
        let mut piece = vec![0; PIECE];
        loop {
            let length = stream.read(&mut piece).unwrap();
            if length == 0 {
                return expected.place;
            }
            for byte in &piece[..length] {
                assert_eq!(*byte, Self::at(expected.place), "byte {}", expected.place);
                expected.place += 1;
            }
            pause(expected.place);
        }
    }
}
