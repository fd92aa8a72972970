//! `evmux resolve`: its arguments.

use clap::Args;

use super::Usage;

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
    pub(super) fn options(self) -> Result<ResolveOptions, Usage> {
        if let Some(service) = &self.service {
            // getaddrinfo(3) would take the rest of a division for the port.
            let is_number = service.bytes().all(|byte| byte.is_ascii_digit());
            if is_number && service.parse::<u16>().is_err() {
                return Err(Usage(format!(
                    "'{service}': a port is a number from 0 to 65535, or a service has a name \
                     (see 'evmux resolve --help')"
                )));
            }
        }
        Ok(ResolveOptions { host: self.host, service: self.service })
    }
}
