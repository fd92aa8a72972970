//! `evmux resolve`: its arguments.

use clap::Args;

/// All that `evmux resolve` was asked for.
pub(crate) struct ResolveOptions {
    /// This machine without it.
    pub(crate) host: Option<String>,
    pub(crate) service: Option<String>,
}

/// Look a name up: addresses, ports of a service, reverse names
///
/// Without HOST: this machine's name, its full name and its addresses. With it, a line for each
/// address: the family, the address, with SERVICE the port and the kind of socket, and the name
/// that the address has, if it has one.
#[derive(Args)]
pub(super) struct Arguments {
    /// A name or an address
    host: Option<String>,

    /// A port or the name of a service, as http
    service: Option<String>,
}

impl Arguments {
    pub(super) fn options(self) -> ResolveOptions {
        ResolveOptions { host: self.host, service: self.service }
    }
}
