//! A handler that finishes our side of a connection and goes on receiving.

use evmux::{CloseReason, Exchange, Flow, Handler, Model};

use crate::support::{assert_bytes, pattern, serve};

every_front_end! {
    our_end_may_come_long_before_the_peers,
    our_end_comes_behind_all_that_was_answered,
    a_connection_whose_peer_had_finished_first_is_over_with_our_end,
}

/// Answers the first bytes with so many, and finishes. Closes when the peer does.
struct Finisher {
    answer: usize,
    finished: bool,
    /// Finishes when the peer has.
    last: bool,
}

impl Finisher {
    fn finish(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        self.finished = true;
        exchange.to_send.append(&pattern(self.answer));
        Flow::Finish
    }
}

impl Handler for Finisher {
    fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        let count = exchange.received.len();
        exchange.received.consume(count);
        if self.finished || self.last { Flow::Continue } else { self.finish(exchange) }
    }

    fn end(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        if self.last && !self.finished { self.finish(exchange) } else { Flow::Close }
    }
}

fn our_end_may_come_long_before_the_peers(model: Model) {
    let served = serve(model, |_| Finisher { answer: 3, finished: false, last: false });
    let mut client = served.connect();
    client.send(b"x");
    assert_bytes(&client.rest(), &pattern(3));
    let more = pattern(1_000_000);
    client.send(&more);
    client.finish();
    assert_eq!(served.closed(1), [CloseReason::Finished]);
    assert_eq!(served.counters().bytes_received, 1 + more.len() as u64);
}

fn our_end_comes_behind_all_that_was_answered(model: Model) {
    const ANSWER: usize = 8 << 20;
    let served = serve(model, |_| Finisher { answer: ANSWER, finished: false, last: false });
    let mut client = served.connect();
    client.send(b"x");
    assert_bytes(&client.rest(), &pattern(ANSWER));
    client.send(b"more");
    client.finish();
    assert_eq!(served.closed(1), [CloseReason::Finished]);
    assert_eq!(served.counters().bytes_received, 5);
}

fn a_connection_whose_peer_had_finished_first_is_over_with_our_end(model: Model) {
    let served = serve(model, |_| Finisher { answer: 1000, finished: false, last: true });
    let mut client = served.connect();
    client.send(b"x");
    client.finish();
    assert_bytes(&client.rest(), &pattern(1000));
    assert_eq!(served.closed(1), [CloseReason::Finished]);
}
