//! `evmux trace-text`: its arguments.

use std::path::PathBuf;

use clap::Args;

use super::Usage;
use super::given::Given;

/// All that `evmux trace-text` was asked for.
pub(crate) struct TraceTextOptions {
    pub(crate) file: PathBuf,
    /// All of them without it.
    pub(crate) connection: Option<u64>,
}

/// Show as text what 'evmux serve --trace' wrote
///
/// A line for each event: when it began, how long it took, on which thread. With --connection the
/// life of one connection, with the bytes of each of its runs and the time of each of its stages.
#[derive(Args)]
pub(super) struct Arguments {
    /// What --trace wrote
    file: PathBuf,

    /// The life of connection N, as the list of all numbers them
    #[arg(long, env = "EVMUX_CONNECTION", value_name = "N")]
    connection: Option<Given>,
}

impl Arguments {
    pub(super) fn options(self) -> Result<TraceTextOptions, Usage> {
        let number = |text: &str| match text.parse::<u64>() {
            Ok(0) | Err(_) => Err("must be a whole number, at least 1".to_owned()),
            Ok(number) => Ok(number),
        };
        let given = self.connection.and_then(Given::set);
        let connection = given.map(|given| given.read(number)).transpose()?;
        Ok(TraceTextOptions { file: self.file, connection })
    }
}
