//! The chat: each message reaches all others once, and who does not read harms nobody.

use std::io::Read;
use std::net::TcpStream;

use socket2::{Domain, Socket, Type};

use crate::running::{Client, Example, PATIENCE};

#[test]
fn chat_tells_each_line_to_all_others_and_once() {
    let limit = evmux::raise_descriptor_limit().unwrap() as usize;
    let count = 2000.min(limit - 200);
    let example = Example::start("chat");
    let mut clients: Vec<Client> = (0..count)
        .map(|number| {
            let mut client = example.connect();
            // Who has heard this is in the room.
            client.hear(&format!("welcome: {} are here\n", number + 1));
            client
        })
        .collect();
    let speakers = [0, 1, count / 2, count - 1];
    for round in 0..3 {
        let texts = speakers.map(|speaker| format!("{speaker} says {round}\nand more\n"));
        for (speaker, text) in speakers.iter().zip(&texts) {
            clients[*speaker].say(text);
        }
        let length: usize = texts.iter().map(String::len).sum();
        for (number, client) in clients.iter_mut().enumerate() {
            let own = speakers.iter().position(|&speaker| speaker == number);
            let mut heard = vec![0; length - own.map_or(0, |own| texts[own].len())];
            client.0.read_exact(&mut heard).unwrap();
            let heard = String::from_utf8(heard).unwrap();
            // The lines of one speaker come in their order, those of two in any.
            for (index, text) in texts.iter().enumerate() {
                let first = text.lines().next();
                let times = heard.lines().filter(|line| Some(*line) == first).count();
                let expected = usize::from(own != Some(index));
                assert_eq!(times, expected, "client {number} heard {heard:?}");
            }
        }
    }
    clients.iter_mut().for_each(Client::hears_nothing);
}

#[test]
fn chat_drops_a_client_that_never_reads_and_the_others_hear_everything() {
    const LINES: usize = 64;
    let example = Example::start("chat");
    let mut speaker = example.connect();
    speaker.line();
    let mut others: Vec<Client> = (0..4).map(|_| example.connect()).collect();
    for other in &mut others {
        other.line();
    }
    let mut deaf = client_with_small_buffer(&example);
    assert_eq!(deaf.line(), "welcome: 6 are here");

    // 16 MiB: far more than the kernel takes for somebody who does not read.
    let text = format!("{}\n", "x".repeat(1023)).repeat(LINES);
    for _ in 0..16 * 1024 / LINES {
        speaker.say(&text);
        for other in &mut others {
            other.hear(&text);
        }
    }
    let memory = example.peak_memory();
    assert!(memory < 32 * 1024, "the chat had {memory} KiB");
    let mut heard = Vec::new();
    let end = deaf.0.read_to_end(&mut heard);
    assert!(heard.len() < 12 << 20, "it heard {} bytes, and {end:?}", heard.len());

    speaker.say("all the same\n");
    for other in &mut others {
        other.hear("all the same\n");
    }
    let mut late = example.connect();
    assert_eq!(late.line(), "welcome: 6 are here");
    speaker.hears_nothing();
}

/// One whose kernel takes a few kilobytes for it.
fn client_with_small_buffer(example: &Example) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect_timeout(&example.address.into(), PATIENCE).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client(stream)
}
