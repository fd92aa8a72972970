//! The log: lines of env_logger, through the queue, to stderr.

use std::env;
use std::panic;
use std::thread;

use env_logger::Target;
use log::{error, warn};

use crate::failure::in_one_line;
use crate::line_queue::LineQueue;

/// Starts logging what `RUST_LOG` asks for, `info` without it.
pub(crate) fn start(stderr: &LineQueue) {
    // Asked here first, since env_logger prints its complaint to stderr itself, and waits there.
    let wanted = env::var("RUST_LOG").ok().filter(|wanted| !wanted.is_empty());
    let mistake =
        wanted.as_deref().and_then(|wanted| env_filter::Builder::new().try_parse(wanted).err());
    let filters = match (&wanted, &mistake) {
        (Some(wanted), None) => wanted,
        _ => "info",
    };
    let logger = env_logger::Builder::new()
        .parse_filters(filters)
        .target(Target::Pipe(Box::new(stderr.clone())))
        .try_init();
    debug_assert!(logger.is_ok(), "the log was started before");
    if let Some(mistake) = mistake {
        warn!("RUST_LOG is ignored: {mistake}");
    }
}

/// A panic becomes one line in the log; what it ends is for whoever catches it to say.
pub(crate) fn catch_panics() {
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
        let thread = thread::current();
        let thread = thread.name().unwrap_or("without a name");
        error!("panic in thread {thread}{place}: {}", in_one_line(message));
    }));
}
