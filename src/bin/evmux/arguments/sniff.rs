//! `evmux sniff`: its arguments.

use clap::Args;

use super::Usage;
use super::given::Given;
use super::read::count;

/// All that `evmux sniff` was asked for.
pub(crate) struct SniffOptions {
    /// Every interface without it.
    pub(crate) interface: Option<String>,
    /// How many packets; for ever without it.
    pub(crate) count: Option<usize>,
}

/// Print the IP packets of an interface, each on a line
///
/// The protocol, both addresses with their ports, the length of the packet in bytes, the flags of
/// TCP. It needs root, or the capability CAP_NET_RAW.
#[derive(Args)]
pub(super) struct Arguments {
    /// The interface, as lo or eth0 [default: all of them]
    #[arg(value_name = "IFACE")]
    interface: Option<String>,

    /// End after so many packets [default: never]
    #[arg(long, env = "EVMUX_COUNT", value_name = "N")]
    count: Option<Given>,
}

impl Arguments {
    pub(super) fn options(self) -> Result<SniffOptions, Usage> {
        let packets = self.count.and_then(Given::set);
        let packets =
            packets.map(|given| given.read(|text| count(text, usize::MAX))).transpose()?;
        Ok(SniffOptions { interface: self.interface, count: packets })
    }
}
