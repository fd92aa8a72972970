//! `evmux client sixteen`: sixteen bytes there and sixteen back, as in the slides' first program
//! that knows when a message is whole.

use std::io::Write;

use evmux::client::receive_exactly;

use super::connect;
use crate::arguments::Endpoint;
use crate::failure::Failure;
use crate::output::Output;

/// Both sides agree on the length, so that nothing on the wire says it.
const MESSAGE: &[u8; 16] = b"Hi there, server";

pub(super) fn run(server: &Endpoint) -> Result<(), Failure> {
    let mut stream = connect(server)?;
    stream.write_all(MESSAGE).map_err(|why| Failure::new(server, why))?;
    let reply =
        receive_exactly(&mut stream, MESSAGE.len()).map_err(|why| Failure::new(server, why))?;
    let _ = Output::new()?.write_line(&reply)?;
    Ok(())
}
