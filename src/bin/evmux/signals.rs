//! SIGTERM and SIGINT: the first one drains the server, at once or a little later, a second one ends
//! the process.
//!
//! The second one must work when nothing else does, a loop that is stuck in a handler for example.
//! So it is acted on inside the signal handler itself: `_exit`, if the flag says that it is the
//! second. Both signals share that flag, for an operator who sends SIGTERM and then presses Ctrl-C.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use evmux::Stop;
use log::info;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// Drains the server of `stop` so long after the first signal, and ends the process with 128 and the
/// signal's number at the second. The flag that is returned is up from the first one on.
pub(crate) fn drain_on_signal(stop: Stop, delay: Duration) -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // What is registered first is done first: a first signal finds the flag down and raises
        // it, a second one finds it up.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    // Last, so that the flag is up when the first signal becomes known: who answers that with
    // another signal sends the second one.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    // If it is up already, the signal came between and did no more than that.
    let was_asked = asked.load(Ordering::SeqCst);
    let drain = move || {
        let first = if was_asked { Some(SIGTERM) } else { signals.forever().next() };
        let name = if first == Some(SIGINT) { "SIGINT" } else { "SIGTERM" };
        if delay.is_zero() {
            info!("{name}: draining; a second signal ends at once");
        } else {
            let after = humantime::format_duration(delay);
            info!("{name}: draining after another {after}; a second signal ends at once");
            thread::sleep(delay);
            info!("draining");
        }
        stop.drain();
    };
    thread::Builder::new().name("signals".into()).spawn(drain)?;
    Ok(asked)
}
