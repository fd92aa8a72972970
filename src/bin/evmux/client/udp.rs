//! `evmux client udp`: a datagram until its answer comes, as the slides send it again.

use std::io;
use std::os::unix::ffi::OsStrExt;

use dns_lookup::SockType;
use evmux::client::{RequestError, request};

use crate::arguments::UdpOptions;
use crate::failure::Failure;
use crate::names;
use crate::output::Output;

pub(super) fn run(options: &UdpOptions) -> Result<(), Failure> {
    let addresses = names::addresses(&options.server, SockType::DGram)?;
    let message = options.message.as_bytes();
    let (answer, _) = request(&addresses[..], message, &options.request)
        .map_err(|error| failure(&error, options))?;
    let mut output = Output::new()?;
    // Whoever asked by hand wants the prompt on a line of its own; `time` and `hello` bring theirs.
    let _ = match answer.last() {
        Some(b'\n') => output.write(&answer)?,
        _ => output.write_line(&answer)?,
    };
    Ok(())
}

fn failure(error: &RequestError, options: &UdpOptions) -> Failure {
    match error {
        RequestError::Send { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied && !options.broadcast =>
        {
            Failure::Run(format!("{error}; a broadcast address needs --broadcast"))
        }
        _ => Failure::Run(error.to_string()),
    }
}
