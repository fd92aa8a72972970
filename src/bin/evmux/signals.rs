//! SIGTERM and SIGINT: the first one drains the server, a second one ends the process.
//!
//! The second one must work when nothing else does, a loop that is stuck in a handler for example.
//! So it is acted on inside the signal handler itself: `_exit`, if the flag says that it is the
//! second. Both signals share that flag, for an operator who sends SIGTERM and then presses Ctrl-C.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use evmux::Stop;
use log::info;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// Drains the server of `stop` at the first signal, and ends the process with 128 and the signal's
/// number at the second.
pub(crate) fn drain_on_signal(stop: Stop) -> io::Result<()> {
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
    if asked.load(Ordering::SeqCst) {
        // It came between, and only raised the flag.
        stop.drain();
    }
    let drain = move || {
        for signal in signals.forever() {
            let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
            info!("{name}: draining; a second signal ends at once");
            stop.drain();
        }
    };
    thread::Builder::new().name("signals".into()).spawn(drain)?;
    Ok(())
}
