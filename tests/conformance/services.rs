//! Each service of the binary, under epoll and under threads: in one piece, byte by byte, cut short
//! by the client's end, and with more than it takes.

use std::io::Read;

use evmux::codec::xmlrpc::{write_call, write_response};
use evmux::services as served;
use evmux::{Handler, Model, Peer};

use crate::harness::{Cell, Transport, serve};
use crate::support::assert_bytes;
use crate::support::handlers::block;

/// What is said to a service, and what it answers until its end.
struct Talk {
    make: fn(&Peer) -> Box<dyn Handler>,
    whole: (Vec<u8>, Vec<u8>),
    /// Said by a client that finishes too early.
    cut: (Vec<u8>, Vec<u8>),
    /// More than the service takes; empty where there is no such thing.
    over_long: (Vec<u8>, Vec<u8>),
    /// What an answer means, where it is not compared as it is.
    read: fn(&[u8]) -> Vec<u8>,
}

impl Talk {
    fn of(make: fn(&Peer) -> Box<dyn Handler>, says: &[u8], answer: &[u8]) -> Self {
        let whole = (says.to_vec(), answer.to_vec());
        Self {
            make,
            whole,
            cut: Default::default(),
            over_long: Default::default(),
            read: <[u8]>::to_vec,
        }
    }

    fn cut(mut self, says: &[u8], answer: &[u8]) -> Self {
        self.cut = (says.to_vec(), answer.to_vec());
        self
    }

    fn over_long(mut self, says: &[u8], answer: &[u8]) -> Self {
        self.over_long = (says.to_vec(), answer.to_vec());
        self
    }

    /// Sends `said` in pieces of `piece` bytes, finishes, and reads to the end.
    #[track_caller]
    fn answers(&self, model: Model, (said, answer): &(Vec<u8>, Vec<u8>), piece: usize) {
        let served = serve(model, Transport::tcp, self.make, |limits| limits);
        let mut client = served.connect();
        for piece in said.chunks(piece) {
            // It may have closed by now: what it answered is what counts.
            if std::io::Write::write_all(&mut client.0, piece).is_err() {
                break;
            }
        }
        let _ = client.0.shutdown(std::net::Shutdown::Write);
        assert_bytes(&(self.read)(&client.rest()), answer);
    }
}

const LONG: [u8; Cell::MAX_FRAME + 1] = [b'x'; Cell::MAX_FRAME + 1];

fn upper() -> Talk {
    let text = "straße, žluťoučký kůň, ﬁn\n";
    Talk::of(|peer| Box::new(served::upper(peer)), text.as_bytes(), text.to_uppercase().as_bytes())
        .cut(b"abc\xc5", b"ABC\xc5")
}

fn echo() -> Talk {
    Talk::of(|peer| Box::new(served::echo(peer)), b"as it is", b"as it is").cut(b"as", b"as")
}

fn discard() -> Talk {
    Talk::of(|peer| Box::new(served::discard(peer)), b"as it is", b"").cut(b"as", b"")
}

fn hello() -> Talk {
    let hello = b"Hello 127.0.0.1\n";
    Talk::of(|peer| Box::new(served::hello(peer)), b"not heard", hello).cut(b"", hello)
}

fn time() -> Talk {
    let noon = "Thu Jun 17 12:00:00 2010\n";
    let make = |peer: &Peer| {
        let service = served::time(|| "Thu Jun 17 12:00:00 2010\n");
        Box::new(evmux::Service::handler(&service, peer)) as Box<dyn Handler>
    };
    Talk::of(make, b"not heard", noon.as_bytes()).cut(b"", noon.as_bytes())
}

fn sixteen() -> Talk {
    Talk::of(|peer| Box::new(served::sixteen(peer)), b"sixteen octets!!", b"Farewell, client")
        .cut(b"fifteen octets!", b"")
        .over_long(&[b"sixteen octets!!", &LONG[..]].concat(), b"Farewell, client")
}

fn blocks() -> Talk {
    let good = [block(b"one"), block(b""), block("zwölf".as_bytes())].concat();
    let answer = [block(b"ONE"), block(b""), block("ZWÖLF".as_bytes())].concat();
    let with = |more: &[u8]| [&good, more].concat();
    Talk::of(|peer| Box::new(served::blocks(peer)), &good, &answer)
        .cut(&with(&block(b"cut")[..6]), &answer)
        .over_long(&with(&block(&LONG)), &answer)
}

fn lines() -> Talk {
    by_line(|peer| Box::new(served::lines(peer)))
}

fn busy() -> Talk {
    by_line(|peer| Box::new(evmux::Service::handler(&served::busy(|| ()), peer)))
}

fn by_line(make: fn(&Peer) -> Box<dyn Handler>) -> Talk {
    Talk::of(make, b"one\r\n\ntwo\n", b"ONE\r\n\nTWO\n")
        .cut(b"one\ntw", b"ONE\nTW")
        .over_long(&[b"one\n", &LONG[..]].concat(), b"ONE\n")
}

fn json() -> Talk {
    Talk::of(
        |peer| Box::new(served::json(peer)),
        b"{\"a\":[\"b\",1]}\n\"c\"\n",
        b"{\"a\":[\"B\",1]}\n\"C\"\n",
    )
    .cut(b"\"a\"\n\"b\"", b"\"A\"\n\"B\"\n")
    .over_long(&[b"\"a\"\n", &LONG[..]].concat(), b"\"A\"\n")
}

fn zlib() -> Talk {
    let text = b"compressed, ".repeat(20);
    let mut talk = Talk::of(|peer| Box::new(served::zlib(peer)), &text, &text).cut(b"c", b"c");
    talk.read = |answer| {
        let mut text = Vec::new();
        if !answer.is_empty() {
            flate2::read::ZlibDecoder::new(answer).read_to_end(&mut text).unwrap();
        }
        text
    };
    talk.over_long(&LONG, b"")
}

fn xmlrpc() -> Talk {
    let call = write_call("add", &[2.into(), 3.into()]).unwrap();
    let request = |length: usize| {
        let head =
            "POST /RPC2 HTTP/1.1\r\nHost: here\r\nContent-Type: text/xml\r\nContent-Length: ";
        format!("{head}{length}\r\n\r\n{call}").into_bytes()
    };
    let whole = request(call.len());
    let answer = format!("200 {}", write_response(&5.into()).unwrap());
    let make = |peer: &Peer| {
        let service = served::xmlrpc(served::Registry::standard());
        Box::new(evmux::Service::handler(&service, peer)) as Box<dyn Handler>
    };
    let mut talk = Talk::of(make, &whole, answer.as_bytes())
        .cut(&whole[..whole.len() - 1], b"")
        .over_long(&request(Cell::MAX_FRAME + 1), b"413 ");
    // The status, and the body of what was done; the head has the date.
    talk.read = |answer| {
        let text = String::from_utf8_lossy(answer);
        let status = text.split(' ').nth(1).unwrap_or_default();
        let body = text.split("\r\n\r\n").nth(1).filter(|_| status == "200");
        match status {
            "" => Vec::new(),
            _ => format!("{status} {}", body.unwrap_or_default()).into_bytes(),
        }
    };
    talk
}

macro_rules! services {
    ($($service:ident $situations:tt)+) => {
        $(mod $service {
            mod threads {
                services! { @ $service threads $situations }
            }
            mod epoll {
                services! { @ $service epoll $situations }
            }
        })+
    };
    (@ $service:ident $model:ident { $($situation:ident)+ }) => {
        $(#[test]
        fn $situation() {
            use crate::services as tests;
            let talk = tests::$service();
            tests::$situation(&talk, stringify!($model).parse().unwrap());
        })+
    };
}

mod service {
    services! {
        upper { whole byte_by_byte half_close }
        echo { whole byte_by_byte half_close }
        discard { whole byte_by_byte half_close }
        hello { whole byte_by_byte half_close }
        time { whole byte_by_byte half_close }
        sixteen { whole byte_by_byte half_close over_long }
        blocks { whole byte_by_byte half_close over_long }
        lines { whole byte_by_byte half_close over_long }
        json { whole byte_by_byte half_close over_long }
        zlib { whole byte_by_byte half_close over_long }
        busy { whole byte_by_byte half_close over_long }
        xmlrpc { whole byte_by_byte half_close over_long }
    }
}

fn whole(talk: &Talk, model: Model) {
    talk.answers(model, &talk.whole, usize::MAX);
}

fn byte_by_byte(talk: &Talk, model: Model) {
    talk.answers(model, &talk.whole, 1);
}

fn half_close(talk: &Talk, model: Model) {
    talk.answers(model, &talk.cut, usize::MAX);
}

fn over_long(talk: &Talk, model: Model) {
    talk.answers(model, &talk.over_long, usize::MAX);
}
