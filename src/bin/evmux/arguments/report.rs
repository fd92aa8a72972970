//! `evmux report`: its arguments.

use std::path::PathBuf;

use clap::Args;

/// All that `evmux report` was asked for.
pub(crate) struct ReportOptions {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) out: PathBuf,
}

/// Merge the results of several runs, or the logs of several load generators, and render them
///
/// Files are results.json of `evmux compare`, or .hlog of `evmux load --hlog`. Histograms are
/// added: percentiles are never averaged.
#[derive(Args)]
pub(super) struct Arguments {
    /// results.json files, or .hlog files
    #[arg(required = true)]
    files: Vec<PathBuf>,

    /// The directory of the report
    #[arg(long, env = "EVMUX_OUT", value_name = "DIR", default_value = "evmux-report")]
    out: PathBuf,
}

impl Arguments {
    pub(super) fn options(self) -> ReportOptions {
        ReportOptions { files: self.files, out: self.out }
    }
}
