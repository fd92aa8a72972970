//! Any bytes for `xmlrpc`; what must hold stands in tests/fuzz/bodies.rs.
#![no_main]

#[allow(dead_code)] // The other targets use the rest of it.
#[path = "../../tests/fuzz/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::xmlrpc(data));
