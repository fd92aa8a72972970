//! What the benches that talk over sockets share: servers in processes of their own, a load, and
//! figures with their spread. None of it uses the engine: a ruler must not share the machine with
//! what it measures.

pub(crate) mod child;
pub(crate) mod figures;
pub(crate) mod load;
pub(crate) mod options;
