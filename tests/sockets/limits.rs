//! Everything has a limit, and reaching one loses nothing that was within it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use evmux::{Builder, CloseReason, Limits, Model, Violation};

use crate::support::handlers::{Blocks, Echo, Flood, Hello, Lines, Never, block, flood};
use crate::support::{
    Client, PATIENCE, Served, assert_bytes, listener_with_small_buffers, pattern, prepare, serve,
    serve_within,
};

every_front_end! {
    an_overlong_frame_loses_no_earlier_answer,
    an_overlong_frame_loses_no_earlier_answer_to_a_client_that_reads_last,
    an_overlong_frame_is_refused_whatever_stands_behind_it,
}

at_once! { Model::ALL;
    an_idle_connection_is_closed_in_its_window,
    a_connection_that_never_said_a_word_is_closed_in_its_window,
    a_waiting_handler_does_not_keep_an_idle_connection_open,
    a_client_that_says_a_word_now_and_then_is_not_idle,
    a_slow_reader_whose_bytes_leave_is_neither_idle_nor_too_slow,
    a_slow_reader_of_what_the_kernel_holds_is_neither_idle_nor_too_slow,
    a_peer_that_takes_nothing_is_cut,
    a_peer_that_takes_nothing_is_not_kept_longer_than_an_idle_one,
    a_peer_that_takes_nothing_after_its_end_is_cut,
    a_frame_that_trickles_in_is_closed_as_incomplete,
    a_line_that_trickles_in_is_closed_as_incomplete,
    each_frame_has_its_own_time,
    the_frame_clock_stands_still_while_the_peer_does_not_read,
    a_peer_that_stays_silent_after_our_end_is_let_go,
    a_peer_that_trickles_after_our_end_is_let_go,
    a_peer_that_trickles_out_the_last_answer_is_cut_at_last,
}

/// 30 frames of 10,000 bytes, and one that is too long.
fn thirty_good_ones_and_a_bad_one() -> (Vec<u8>, Vec<u8>) {
    let good = block(&pattern(10_000)).repeat(30);
    assert_eq!(good.len(), 300_120);
    let mut all = good.clone();
    all.extend((1_u32 << 24).to_be_bytes());
    all.extend(pattern(50_000));
    (good, all)
}

const TOO_LONG: CloseReason =
    CloseReason::Refused(Violation::TooLong { length: 1 << 24, limit: 1 << 20 });

fn an_overlong_frame_loses_no_earlier_answer(model: Model) {
    let served = serve(model, |_| Blocks);
    let mut client = served.connect();
    let (good, all) = thirty_good_ones_and_a_bad_one();
    let mut writer = client.split();
    thread::scope(|scope| {
        scope.spawn(|| writer.send(&all));
        assert_bytes(&client.rest(), &good);
    });
    client.finish();
    assert_eq!(served.closed(1), [TOO_LONG]);
}

fn an_overlong_frame_loses_no_earlier_answer_to_a_client_that_reads_last(model: Model) {
    let served = serve(model, |_| Blocks);
    let mut client = served.connect();
    let (good, all) = thirty_good_ones_and_a_bad_one();
    client.send(&all);
    client.finish();
    // Long enough for a server that closes at once to have done so.
    thread::sleep(Duration::from_millis(200));
    assert_bytes(&client.rest(), &good);
    assert_eq!(served.closed(1), [TOO_LONG]);
}

fn an_overlong_frame_is_refused_whatever_stands_behind_it(model: Model) {
    let served = serve(model, |_| Blocks);
    let mut client = served.connect();
    client.ask(&block(b"good"));
    // A client that means to send all of it before it reads.
    client.send(&(8_u32 << 20).to_be_bytes());
    client.send(&pattern(8 << 20));
    client.expect_end();
    client.finish();
    let refused = CloseReason::Refused(Violation::TooLong { length: 8 << 20, limit: 1 << 20 });
    assert_eq!(served.closed(1), [refused]);
}

// ── idle ─────────────────────────────────────────────────────────────────────────────────────────

const IDLE: Duration = Duration::from_millis(500);

fn idle() -> Limits {
    Limits::default().idle_timeout(Some(IDLE))
}

/// Waits for the end of a connection on which the last byte moved between `earliest` and now.
#[track_caller]
fn ends_in_the_idle_window(client: &mut Client, earliest: Instant) {
    let latest = Instant::now();
    client.expect_end();
    let (least, most) = (latest.elapsed(), earliest.elapsed());
    assert!(most >= IDLE, "closed after {most:?}");
    assert!(least <= 2 * IDLE + Duration::from_secs(1), "closed after {least:?}");
}

fn an_idle_connection_is_closed_in_its_window(model: Model) {
    let served = serve_within(model, idle(), |_| Echo);
    let mut client = served.connect();
    let start = Instant::now();
    client.ask(b"x");
    ends_in_the_idle_window(&mut client, start);
    drop(client);
    assert_eq!(served.closed(1), [CloseReason::Idle]);
}

fn a_connection_that_never_said_a_word_is_closed_in_its_window(model: Model) {
    let served = serve_within(model, idle(), |_| Echo);
    let start = Instant::now();
    let mut client = served.connect();
    ends_in_the_idle_window(&mut client, start);
    drop(client);
    assert_eq!(served.closed(1), [CloseReason::Idle]);
}

fn a_waiting_handler_does_not_keep_an_idle_connection_open(model: Model) {
    let served = serve_within(model, idle(), |_| Never);
    let mut client = served.connect();
    let start = Instant::now();
    client.send(b"x");
    ends_in_the_idle_window(&mut client, start);
    drop(client);
    assert_eq!(served.closed(1), [CloseReason::Idle]);
}

fn a_client_that_says_a_word_now_and_then_is_not_idle(model: Model) {
    let limits = Limits::default().idle_timeout(Some(Duration::from_secs(1)));
    let served = serve_within(model, limits, |_| Echo);
    let mut client = served.connect();
    for _ in 0..12 {
        client.ask(b"x");
        thread::sleep(Duration::from_millis(200)); // For longer in all than the idle timeout.
    }
}

// ── slow readers ─────────────────────────────────────────────────────────────────────────────────

/// Neither idleness nor a lack of progress is suffered for longer than a second.
fn a_second() -> Limits {
    let second = Some(Duration::from_secs(1));
    Limits::default().idle_timeout(second).write_timeout(second)
}

/// A server whose sockets hold little, so that it sees when a peer does not read.
#[track_caller]
fn serve_tightly(model: Model, limits: Limits) -> Served {
    let listener = listener_with_small_buffers();
    let settings = |b: Builder<_>| b.limits(limits).listener(listener);
    prepare(model, |_| Flood::default(), settings).start()
}

#[track_caller]
fn asks_for(address: SocketAddr, count: usize) -> Client {
    let mut client = Client::with_small_buffer(address);
    client.send(&flood(count));
    client
}

fn a_slow_reader_whose_bytes_leave_is_neither_idle_nor_too_slow(model: Model) {
    let served = serve_tightly(model, a_second());
    let count = 400_000;
    let mut client = asks_for(served.address, count);
    let mut answer = client.receive_slowly(100_000, 2000, Duration::from_millis(50));
    answer.extend(client.rest());
    assert_bytes(&answer, &pattern(count));
    drop(client);
    assert_eq!(served.closed(1), [CloseReason::Served]);
}

/// The kernel takes megabytes for a peer on the loopback, and then nothing until a third of them
/// has left: for longer than the timeouts, although the peer reads all the time.
fn a_slow_reader_of_what_the_kernel_holds_is_neither_idle_nor_too_slow(model: Model) {
    let served = serve_within(model, a_second(), |_| Flood::default());
    let count = 16 << 20;
    let mut client = asks_for(served.address, count);
    let mut answer = client.receive_slowly(600_000, 8000, Duration::from_millis(50));
    answer.extend(client.rest());
    assert_bytes(&answer, &pattern(count));
    drop(client);
    assert_eq!(served.closed(1), [CloseReason::Served]);
}

fn a_peer_that_takes_nothing_is_cut(model: Model) {
    let limits = Limits::default().write_timeout(Some(IDLE));
    let served = serve_within(model, limits, |_| Flood::default());
    let start = Instant::now();
    let mut client = asks_for(served.address, 64 << 20);
    assert_eq!(served.closed(1), [CloseReason::TooSlow]);
    assert!(start.elapsed() >= IDLE);
    assert!(client.until_reset() < 64 << 20);
}

fn a_peer_that_takes_nothing_is_not_kept_longer_than_an_idle_one(model: Model) {
    let served = serve_within(model, idle(), |_| Flood::default());
    let mut client = asks_for(served.address, 64 << 20);
    let start = Instant::now();
    served.closed(1);
    let after = start.elapsed();
    assert!(after <= 2 * IDLE + Duration::from_secs(1), "closed after {after:?}");
    client.until_reset();
}

fn a_peer_that_takes_nothing_after_its_end_is_cut(model: Model) {
    let limits = Limits::default().write_timeout(Some(IDLE));
    let served = serve_within(model, limits, |_| Flood::default());
    let mut client = asks_for(served.address, 64 << 20);
    client.finish();
    assert_eq!(served.closed(1), [CloseReason::TooSlow]);
    client.until_reset();
}

// ── frames ───────────────────────────────────────────────────────────────────────────────────────

fn a_frame_that_trickles_in_is_closed_as_incomplete(model: Model) {
    let served = serve_within(model, frames_in_time(), |_| Blocks);
    let mut client = served.connect();
    client.ask(&block(b"good"));
    trickles(&served, client, &1000_u32.to_be_bytes());
}

fn a_line_that_trickles_in_is_closed_as_incomplete(model: Model) {
    let served = serve_within(model, frames_in_time(), |_| Lines);
    let mut client = served.connect();
    client.ask(b"good\n");
    trickles(&served, client, b"not ");
}

const FRAME: Duration = Duration::from_millis(500);

fn frames_in_time() -> Limits {
    Limits::default().frame_timeout(Some(FRAME))
}

/// Begins a frame with `head` and goes on with a byte now and then, until the server has enough.
#[track_caller]
fn trickles(served: &Served, mut client: Client, head: &[u8]) {
    let start = Instant::now();
    client.send(head);
    let mut writer = client.split();
    thread::scope(|scope| {
        scope.spawn(move || {
            // The whole frame would take 20 s.
            for _ in 0..150 {
                if writer.stream.write_all(b"x").is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        client.expect_end();
        assert!(start.elapsed() >= FRAME);
        assert!(start.elapsed() <= 2 * FRAME + Duration::from_secs(1));
        client.finish();
    });
    assert_eq!(served.closed(1), [CloseReason::Incomplete]);
}

fn each_frame_has_its_own_time(model: Model) {
    let limits = Limits::default().frame_timeout(Some(Duration::from_secs(1)));
    let served = serve_within(model, limits, |_| Blocks);
    let mut client = served.connect();
    let frame = block(b"halves");
    let (first, second) = frame.split_at(7);
    client.send(first);
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(400)); // For longer in all than one frame may take.
        // The end of one frame and the beginning of the next are received together.
        client.send(&[second, first].concat());
        client.expect(&frame);
    }
}

fn the_frame_clock_stands_still_while_the_peer_does_not_read(model: Model) {
    let limits =
        Limits::default().frame_timeout(Some(Duration::from_millis(300))).send_buffer(100_000);
    let listener = listener_with_small_buffers();
    let settings = |b: Builder<_>| b.limits(limits).listener(listener);
    let served = prepare(model, |_| Blocks, settings).start();
    let mut client = Client::with_small_buffer(served.address);
    let frames = block(&pattern(30_011)).repeat(100);
    let mut writer = client.split();
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.send(&frames);
            writer.finish();
        });
        // For much longer than a frame may take.
        thread::sleep(Duration::from_millis(1000));
        assert_bytes(&client.rest(), &frames);
    });
    assert_eq!(served.closed(1), [CloseReason::Finished]);
}

// ── after our end ────────────────────────────────────────────────────────────────────────────────

fn a_peer_that_stays_silent_after_our_end_is_let_go(model: Model) {
    let limits = Limits::default().linger(Duration::from_millis(300), Duration::from_secs(30));
    let served = serve_within(model, limits, |_| Hello);
    let mut client = served.connect();
    client.expect(b"hello");
    client.expect_end();
    assert_eq!(served.closed(1), [CloseReason::Served]);
}

fn a_peer_that_trickles_after_our_end_is_let_go(model: Model) {
    let in_all = Duration::from_millis(600);
    let limits = Limits::default().linger(Duration::from_secs(30), in_all);
    let served = serve_within(model, limits, |_| Hello);
    let mut client = served.connect();
    let start = Instant::now();
    client.expect(b"hello");
    let mut writer = client.split();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Until the server has closed at last, and answers with a reset.
            while writer.stream.write_all(b"x").is_ok() && start.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(served.closed(1), [CloseReason::Served]);
        assert!(start.elapsed() >= in_all);
    });
}

fn a_peer_that_trickles_out_the_last_answer_is_cut_at_last(model: Model) {
    let limits = Limits::default().flush_timeout(Some(Duration::from_secs(1)));
    let served = serve_tightly(model, limits);
    // Within the send buffer's limit: the handler has closed at once, and the rest is flushed.
    let mut client = asks_for(served.address, 900_000);
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(served.closed(1), [CloseReason::TooSlow]));
        let mut taken = 0;
        let mut piece = [0; 2000];
        loop {
            match client.stream.read(&mut piece) {
                Ok(count) if count > 0 => taken += count,
                other => {
                    assert!(other.is_err() && taken < 900_000, "{other:?} after {taken} bytes");
                    break;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
}
