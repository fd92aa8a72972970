//! A conversation with a handler, without a socket: what the client says goes in, what it hears
//! comes out. The client may take little at a time, so that answers wait and marks are met.

use evmux::{Answer, CloseReason, Connection, Handler, Lent, Limits, Moment, Violation};

/// Bytes of one read.
const INPUT: usize = 4096;
const NOW: Moment = Moment::START;

pub(crate) struct Talk<H> {
    connection: Connection<H>,
    limits: Limits,
    output: Vec<u8>,
    client: Client,
}

struct Client {
    /// How many bytes it takes at a time.
    takes: usize,
    heard: Vec<u8>,
    most_waiting: usize,
}

impl<H: Handler> Talk<H> {
    pub(crate) fn new(handler: H) -> Self {
        Self::with(handler, Limits::default(), usize::MAX)
    }

    /// A client that takes `takes` bytes at a time.
    pub(crate) fn with(handler: H, limits: Limits, takes: usize) -> Self {
        let client = Client { takes, heard: Vec::new(), most_waiting: 0 };
        let connection = Connection::new(handler, NOW);
        let mut talk = Self { connection, limits, output: Vec::new(), client };
        let answer = talk.connection.open(Lent::new(&mut talk.output, &talk.limits, NOW));
        talk.client.take(&mut talk.connection, answer, &talk.limits);
        talk.go_on();
        talk
    }

    /// The client sends `bytes`, in as few reads as they need, and takes what is answered.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> &mut Self {
        let mut input = [0; INPUT];
        let mut rest = bytes;
        while !rest.is_empty() && self.connection.wants().receive {
            let front = self.connection.front(INPUT);
            let (piece, later) = rest.split_at(rest.len().min(INPUT - front));
            let received = &mut input[..front + piece.len()];
            received[front..].copy_from_slice(piece);
            let lent = Lent::new(&mut self.output, &self.limits, NOW);
            let answer = self.connection.receive(received, front, lent);
            self.client.take(&mut self.connection, answer, &self.limits);
            self.go_on();
            rest = later;
        }
        self
    }

    /// The client sends nothing more.
    pub(crate) fn finish(&mut self) -> &mut Self {
        let lent = Lent::new(&mut self.output, &self.limits, NOW);
        let answer = self.connection.receive_end(lent);
        self.client.take(&mut self.connection, answer, &self.limits);
        self.go_on()
    }

    /// The server is going away, and nothing is under way to it.
    pub(crate) fn drain(&mut self) -> &mut Self {
        let answer = self.connection.drain(0, Lent::new(&mut self.output, &self.limits, NOW));
        self.client.take(&mut self.connection, answer, &self.limits);
        self.go_on()
    }

    /// Another thread of the server wakes the handler.
    pub(crate) fn wake(&mut self) -> &mut Self {
        let answer = self.connection.wake(Lent::new(&mut self.output, &self.limits, NOW));
        self.client.take(&mut self.connection, answer, &self.limits);
        self.go_on()
    }

    /// What the client has heard.
    pub(crate) fn heard(&self) -> &[u8] {
        &self.client.heard
    }

    /// The most that ever waited for the client.
    pub(crate) fn most_waiting(&self) -> usize {
        self.client.most_waiting
    }

    /// Whether anything was answered with bytes other than the received ones.
    pub(crate) fn has_copied(&self) -> bool {
        self.output.capacity() > 0
    }

    /// How the connection ends once the client finishes, too.
    pub(crate) fn reason(&mut self) -> CloseReason {
        self.finish();
        self.connection.close_reason().expect("both have finished")
    }

    pub(crate) fn violation(&mut self) -> Option<Violation> {
        match self.reason() {
            CloseReason::Refused(violation) => Some(violation),
            _ => None,
        }
    }

    /// When the frame that has begun must be whole, if one has.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        Some(self.connection.deadline(&self.limits)).filter(|deadline| !deadline.is_never())
    }

    /// What goes on without the client's saying anything.
    fn go_on(&mut self) -> &mut Self {
        loop {
            let wants = self.connection.wants();
            if wants.send {
                self.client.take_waiting(&mut self.connection, &self.limits);
            } else if wants.pump {
                let answer = self.connection.pump(Lent::new(&mut self.output, &self.limits, NOW));
                self.client.take(&mut self.connection, answer, &self.limits);
            } else if wants.finish {
                self.connection.finished(&self.limits, NOW);
            } else {
                return self;
            }
        }
    }
}

impl Client {
    /// Takes what it can of an answer, unless an earlier one waits.
    fn take<H: Handler>(
        &mut self,
        connection: &mut Connection<H>,
        answer: Answer<'_>,
        limits: &Limits,
    ) {
        let bytes = answer.as_slice();
        let taken = if connection.to_send().is_empty() { bytes.len().min(self.takes) } else { 0 };
        self.heard.extend_from_slice(&bytes[..taken]);
        connection.keep(answer, taken, limits, NOW);
        self.most_waiting = self.most_waiting.max(connection.to_send().len());
    }

    fn take_waiting<H: Handler>(&mut self, connection: &mut Connection<H>, limits: &Limits) {
        let waiting = connection.to_send();
        let taken = waiting.len().min(self.takes);
        self.heard.extend_from_slice(&waiting[..taken]);
        connection.sent(taken, limits, NOW);
    }
}
