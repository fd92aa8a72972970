//! A recording, written as lines of JSON, one event each.
//!
//! Each line is written as soon as it is made. What the ring has no longer, or not yet, is made up
//! so that every viewer takes the file: a life that began before the timeline begins with it, and
//! one that is not over ends with it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use evmux::Moment;
use evmux::trace::{Event, Record, Recording};

use super::{
    Args, CLOSED, CONNECTIONS, Line, OPEN_CONNECTIONS, RECORDS, THREAD_NAME, WAITING_BYTES,
};

/// Writes `recording` of a server that is called `what`.
pub(super) fn encode(
    mut recording: Recording,
    what: &str,
    output: &mut impl Write,
) -> io::Result<()> {
    // A slice is recorded at its end; viewers draw by beginnings, what encloses first.
    recording.records.sort_by_key(|record| (record.began, std::cmp::Reverse(record.ended)));
    let begin = recording.records.first().map_or(Moment::START, |record| record.began);
    let end = recording.records.iter().map(|record| record.ended).max().unwrap_or(begin);
    let about = serde_json::json!({
        "program": concat!("evmux ", env!("CARGO_PKG_VERSION")),
        "server": what,
        "records": recording.records.len(),
        "most": RECORDS,
        "dropped": recording.dropped,
    });
    write!(output, "{{\"displayTimeUnit\":\"ns\",\"otherData\":{about},\"traceEvents\":[")?;
    let mut encoder = Encoder {
        output,
        pid: std::process::id(),
        begin,
        is_first: true,
        lives: BTreeMap::new(),
        waiting: BTreeMap::new(),
    };
    encoder.names(what, &recording.tracks)?;
    for record in &recording.before {
        encoder.remembered(record)?;
    }
    for record in &recording.records {
        encoder.record(record)?;
    }
    encoder.finish(end)?;
    output.write_all(b"\n]}\n")
}

struct Encoder<'o, W> {
    output: &'o mut W,
    pid: u32,
    begin: Moment,
    is_first: bool,
    lives: BTreeMap<u64, Life>,
    /// Bytes, by track.
    waiting: BTreeMap<u32, u64>,
}

/// A connection that is open.
struct Life {
    track: u32,
    stage: Option<&'static str>,
}

impl<W: Write> Encoder<'_, W> {
    fn names(&mut self, what: &str, tracks: &[String]) -> io::Result<()> {
        let args = |name: String| Args { name: Some(name.into()), ..Args::default() };
        let program = format!("evmux ({what})");
        self.line(Line { args: args(program), ..self.plain("M", "process_name", None, 0) })?;
        for (number, name) in tracks.iter().enumerate() {
            // Threads of one name are told apart by a number behind it.
            let same = |other: &&String| *other == name;
            let is_alone = tracks.iter().filter(same).take(2).count() == 1;
            let name = if is_alone { name.clone() } else { format!("{name} #{}", number + 1) };
            let line = self.plain("M", THREAD_NAME, None, number as u32);
            self.line(Line { args: args(name), ..line })?;
        }
        Ok(())
    }

    /// What was so when the timeline began.
    fn remembered(&mut self, record: &Record) -> io::Result<()> {
        let earlier = Some(micros(record.began, self.begin));
        self.told(record, self.begin, earlier)
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.told(record, record.began, None)
    }

    fn told(&mut self, record: &Record, at: Moment, earlier: Option<f64>) -> io::Result<()> {
        let Record { began, ended, track, event, .. } = *record;
        match event {
            Event::Opened { connection, peer } => {
                self.lives.insert(connection, Life { track, stage: None });
                let name = format!("connection {connection}");
                let args = Args {
                    connection: Some(connection),
                    peer: Some(peer.to_string().into()),
                    earlier,
                    ..Args::default()
                };
                self.span("b", &name, connection, at, track, args)?;
                self.open_connections(at)
            }
            Event::Stage { connection, stage } => {
                let Some(life) = self.lives.get_mut(&connection) else { return Ok(()) };
                if let Some(before) = life.stage.replace(stage.name()) {
                    self.span("e", before, connection, at, track, Args::default())?;
                }
                let args = Args { connection: Some(connection), earlier, ..Args::default() };
                self.span("b", stage.name(), connection, at, track, args)
            }
            Event::Closed { connection, reason } => {
                self.over(connection, at, Some(reason))?;
                self.open_connections(at)
            }
            Event::Waiting { bytes } => {
                self.waiting.insert(track, bytes);
                let args = Args { bytes: Some(self.waiting.values().sum()), ..Args::default() };
                self.line(Line { args, ..self.plain("C", WAITING_BYTES, Some(at), track) })
            }
            _ if event.is_slice() => {
                let dur = Some(micros(began, ended));
                let args = args(&event);
                self.line(Line { dur, args, ..self.plain("X", event.name(), Some(at), track) })
            }
            _ => {
                let line = self.plain("i", event.name(), Some(at), track);
                self.line(Line { s: "t".into(), args: args(&event), ..line })?;
                match event.connection() {
                    Some(number) if self.lives.contains_key(&number) => {
                        self.span("n", event.name(), number, at, track, args(&event))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Ends what is still open when the timeline does.
    fn finish(&mut self, end: Moment) -> io::Result<()> {
        while let Some((&connection, _)) = self.lives.first_key_value() {
            self.over(connection, end, None)?;
        }
        Ok(())
    }

    /// A life is over, and its stage with it.
    fn over(
        &mut self,
        connection: u64,
        at: Moment,
        reason: Option<&'static str>,
    ) -> io::Result<()> {
        let Some(Life { track, stage }) = self.lives.remove(&connection) else { return Ok(()) };
        if let Some(stage) = stage {
            self.span("e", stage, connection, at, track, Args::default())?;
        }
        let reason = reason.map(Cow::Borrowed);
        if reason.is_some() {
            let args = Args { connection: Some(connection), reason, ..Args::default() };
            let line = self.plain("i", CLOSED, Some(at), track);
            self.line(Line { s: "t".into(), args: args.clone(), ..line })?;
            self.span("e", &format!("connection {connection}"), connection, at, track, args)
        } else {
            let name = format!("connection {connection}");
            self.span("e", &name, connection, at, track, Args::default())
        }
    }

    fn open_connections(&mut self, at: Moment) -> io::Result<()> {
        let args = Args { connections: Some(self.lives.len() as u64), ..Args::default() };
        self.line(Line { args, ..self.plain("C", OPEN_CONNECTIONS, Some(at), 0) })
    }

    fn span(
        &mut self,
        ph: &'static str,
        name: &str,
        connection: u64,
        at: Moment,
        track: u32,
        args: Args<'_>,
    ) -> io::Result<()> {
        let id = Some(format!("{connection:#x}").into());
        let line = self.plain(ph, name, Some(at), track);
        self.line(Line { cat: CONNECTIONS.into(), id, args, ..line })
    }

    fn plain<'a>(
        &self,
        ph: &'static str,
        name: &'a str,
        at: Option<Moment>,
        track: u32,
    ) -> Line<'a> {
        Line {
            ph: ph.into(),
            name: name.into(),
            ts: at.map_or(0.0, |at| micros(Moment::START, at)),
            pid: self.pid,
            tid: track + 1,
            ..Line::default()
        }
    }

    fn line(&mut self, line: Line<'_>) -> io::Result<()> {
        self.output.write_all(if std::mem::take(&mut self.is_first) { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *self.output, &line).map_err(io::Error::from)
    }
}

/// What else is known of a slice or an instant.
fn args(event: &Event) -> Args<'static> {
    let mut args = Args { connection: event.connection(), ..Args::default() };
    match *event {
        Event::Wait { events } => args.events = Some(events.into()),
        Event::Accept { clients } => args.clients = Some(clients.into()),
        Event::Datagrams { datagrams } => args.datagrams = Some(datagrams),
        Event::Run { received, sent, .. } | Event::Call { received, sent, .. } => {
            args.received = Some(received);
            args.sent = Some(sent);
        }
        _ => {}
    }
    args
}

/// From `began` to `ended`; exact to the nanosecond for a hundred days.
fn micros(began: Moment, ended: Moment) -> f64 {
    ended.as_nanos().saturating_sub(began.as_nanos()) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;

    use evmux::trace::Recorder;
    use evmux::{Server, services};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_life_whose_beginning_is_lost_begins_with_the_timeline_and_ends_with_it() {
        // Room for two turns.
        let recorder = Recorder::new(10);
        let server = Server::builder(services::echo)
            .trace(recorder.clone())
            .listen("127.0.0.1:0")
            .build()
            .expect("a port");
        let address = server.local_addresses()[0].to_string();
        let running = server.start().expect("a thread");
        let mut stream =
            TcpStream::connect(address.trim_start_matches("tcp ")).expect("it listens");
        for _ in 0..20 {
            stream.write_all(b"word").expect("it reads");
            stream.read_exact(&mut [0; 4]).expect("an answer");
        }
        // What a turn did is handed over at its end, behind the answer. The next turns drop it.
        let recording = recorder.recording();
        assert!(recording.dropped > 0);
        drop(running);

        let mut text = Vec::new();
        encode(recording, "a test", &mut text).expect("memory");
        let document: Value = serde_json::from_slice(&text).expect("JSON");
        let events = document["traceEvents"].as_array().expect("a list");
        let spans: Vec<_> = events
            .iter()
            .filter(|event| event["cat"] == CONNECTIONS)
            .map(|event| (event["ph"].as_str(), event["name"].as_str()))
            .collect();
        assert_eq!(
            spans,
            [
                (Some("b"), Some("connection 1")),
                (Some("b"), Some("idle")),
                (Some("e"), Some("idle")),
                (Some("e"), Some("connection 1")),
            ]
        );
        let times: Vec<_> = events.iter().filter_map(|event| event["ts"].as_f64()).collect();
        let opened = events.iter().find(|event| event["name"] == "connection 1").expect("it");
        assert!(opened["args"]["earlier"].as_f64() > Some(0.0));
        let first = times.iter().copied().filter(|&time| time > 0.0).fold(f64::MAX, f64::min);
        assert_eq!(opened["ts"].as_f64(), Some(first));
    }
}
