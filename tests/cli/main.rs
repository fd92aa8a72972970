//! What the command line promises, line by line, of the real binary.

#[path = "../support/binary.rs"]
mod binary;

mod about;
mod admin;
mod arguments;
mod client_streams;
mod client_udp;
mod compare;
mod datagrams;
mod hostile;
mod hostile_xmlrpc;
mod http_client;
mod load;
mod log;
mod options;
mod resolve;
mod serving;
mod signals;
mod sniff;
mod standard_streams;
mod trace;
mod xmlrpc_client;

use std::fs;
use std::path::PathBuf;

const MODELS: [&str; 5] = ["sequential", "threads", "pool", "poll", "epoll"];

/// The last line of a log.
#[track_caller]
fn last_line(log: &str) -> &str {
    log.lines().last().unwrap_or_else(|| panic!("the log is empty"))
}

/// A file that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn file(name: &str) -> Self {
        Self(
            PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
                .join(format!("{}-{name}", std::process::id())),
        )
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
