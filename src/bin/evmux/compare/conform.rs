//! Before anything is measured: does every server give the bytes that it must? Who answers wrongly
//! may be as fast as it likes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use evmux::codec::blocks;

use super::Service;

/// Nobody takes longer to answer some hundred kilobytes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a server in several ways. Why it does not conform, if so.
pub(crate) fn check(address: SocketAddr, service: Service, text: &str) -> Result<(), String> {
    let long = text.repeat(LONG / text.len());
    for (name, text, piece) in [
        ("in one piece", text, usize::MAX),
        ("byte by byte", text, 1),
        ("300 kB with the end behind them", long.as_str(), 65536),
    ] {
        let request = service.frame(text);
        let expected = service.expected(text);
        match ask(address, &request, piece, expected.len()) {
            Ok(answer) if answer == expected => {}
            Ok(answer) => {
                let place = answer.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                return Err(format!(
                    "asked {name}, {} bytes came instead of {}, and byte {place} is another one",
                    answer.len(),
                    expected.len()
                ));
            }
            Err(why) => return Err(format!("asked {name}: {why}")),
        }
    }
    Ok(())
}

/// What every server must upper-case; ours also what is not ASCII.
pub(crate) const ASCII: &str = "the quick brown fox jumps over the lazy dog 0123456789\n";
pub(crate) const UNICODE: &str = "straße, ŉ, ﬁn, ΐ, ǆ, გამარჯობა, the quick brown fox\n";

const LONG: usize = 300_000;

/// Sends `request` in pieces and our end behind it; everything that comes.
fn ask(address: SocketAddr, request: &[u8], piece: usize, expected: usize) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut writer = stream.try_clone()?;
    let request = request.to_vec();
    // Who sends everything before it reads may wait for a server that waits for it.
    let sender = std::thread::spawn(move || -> io::Result<()> {
        for piece in request.chunks(piece.min(request.len().max(1))) {
            writer.write_all(piece)?;
        }
        writer.shutdown(Shutdown::Write)
    });
    let mut answer = Vec::with_capacity(expected);
    // A server that does not stop is told from one that answers.
    let read = (&mut stream).take(expected as u64 + 1).read_to_end(&mut answer);
    let sent = sender.join().unwrap_or_else(|_| Err(io::Error::other("the sender panicked")));
    read?;
    sent?;
    Ok(answer)
}

impl Service {
    fn frame(self, text: &str) -> Vec<u8> {
        match self {
            Self::Blocks => block(text.as_bytes()),
            _ => text.as_bytes().to_vec(),
        }
    }

    fn expected(self, text: &str) -> Vec<u8> {
        match self {
            Self::Echo => text.as_bytes().to_vec(),
            Self::Blocks => block(text.to_uppercase().as_bytes()),
            Self::Upper | Self::Lines => text.to_uppercase().into_bytes(),
        }
    }
}

fn block(payload: &[u8]) -> Vec<u8> {
    // No text here is as long as 4 GiB.
    let header = blocks::header(payload.len()).unwrap_or_default();
    [header.as_slice(), payload].concat()
}
