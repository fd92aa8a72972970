//! Thousands of clients at once against a server that answers text with its upper case:
//! `evmux serve` in one terminal, `cargo run --release --example many_clients` in another.
//!
//! `many_clients [ADDRESS [CLIENTS [MESSAGES]]]`: each client sends so many messages of mixed
//! lengths, multi-byte text that is cut anywhere, and compares every byte of the answers. It ends
//! with status 1 when one is wrong or missing. All clients are open before the first one sends.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Letters of one to four bytes, some of which grow in upper case.
const LETTERS: &[&str] = &["a", "z", "Q", " ", "\n", "ß", "é", "α", "ж", "ŉ", "ﬁ", "字", "😀", "ა"];

struct Client {
    stream: TcpStream,
    draw: Draw,
    messages: u32,
    /// The message under way, and how much of it was sent.
    message: Vec<u8>,
    sent: usize,
    /// Its answer, and how much of it has come.
    answer: Vec<u8>,
    received: usize,
}

impl Client {
    fn new(stream: TcpStream, seed: u64, messages: u32) -> Self {
        let (message, answer) = (Vec::new(), Vec::new());
        let draw = Draw(seed);
        let mut client = Self { stream, draw, messages, message, sent: 0, answer, received: 0 };
        client.begin();
        client
    }

    /// Draws the next message.
    fn begin(&mut self) {
        // Mostly short ones; one in ten has some thousand letters.
        let most = if self.draw.below(10) == 0 { 4000 } else { 100 };
        let letters = 1 + self.draw.below(most);
        let text: String = (0..letters).map(|_| LETTERS[self.draw.below(LETTERS.len())]).collect();
        (self.answer, self.message) = (text.to_uppercase().into_bytes(), text.into_bytes());
        (self.sent, self.received) = (0, 0);
    }

    /// Goes on as far as the socket lets it. True when all messages were answered.
    fn run(&mut self, input: &mut [u8]) -> Result<bool, Box<dyn Error>> {
        loop {
            while self.sent < self.message.len() {
                let piece = 1 + self.draw.below(self.message.len() - self.sent);
                match self.stream.write(&self.message[self.sent..self.sent + piece]) {
                    Ok(count) => self.sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            match self.stream.read(input) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => self.compare(&input[..count])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            if self.received == self.answer.len() && self.sent == self.message.len() {
                self.messages -= 1;
                if self.messages == 0 {
                    return Ok(true);
                }
                self.begin();
            }
        }
    }

    fn compare(&mut self, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        let expected = &self.answer[self.received..];
        if bytes.len() > expected.len() || bytes != &expected[..bytes.len()] {
            return Err(format!("a wrong answer after {} right bytes", self.received).into());
        }
        self.received += bytes.len();
        Ok(())
    }
}

/// SplitMix64: a seed gives the same messages in the same pieces.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().unwrap_or("127.0.0.1:9000".into()).parse()?;
    let count: usize = arguments.next().unwrap_or("5000".into()).parse()?;
    let messages: u32 = arguments.next().unwrap_or("100".into()).parse()?;
    evmux::raise_descriptor_limit()?;

    let mut poll = Poll::new()?;
    let mut clients = Vec::with_capacity(count);
    for index in 0..count {
        // Waiting for each to be connected keeps the server's accept queue short.
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), both)?;
        clients.push(Some(Client::new(stream, index as u64, messages.max(1))));
    }
    println!("{count} clients are connected");

    let (began, mut open, mut wrong) = (Instant::now(), count, 0);
    let mut events = Events::with_capacity(1024);
    let mut input = vec![0; 65536];
    while open > 0 {
        poll.poll(&mut events, Some(Duration::from_secs(30)))?;
        if events.is_empty() {
            println!("nothing came for 30 s: {open} clients wait for their answers");
            wrong += open;
            break;
        }
        for event in &events {
            let place = &mut clients[event.token().0];
            let Some(client) = place else { continue };
            match client.run(&mut input) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => {
                    println!("client {}: {error}", event.token().0);
                    wrong += 1;
                }
            }
            *place = None;
            open -= 1;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let total = count as u64 * u64::from(messages.max(1));
    println!("{total} messages in {seconds:.1} s, {wrong} clients failed");
    if wrong > 0 { Err("not every answer was right".into()) } else { Ok(()) }
}
