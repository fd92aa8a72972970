//! The command line of evmux.
fn main() {}
