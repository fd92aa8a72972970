//! Why a command was not carried out: one line, and an exit status.

use std::fmt;
use std::process::ExitCode;

use crate::arguments::Usage;

pub(crate) enum Failure {
    /// The command line is wrong; nothing was tried.
    Usage(Usage),
    /// What failed at run time, on what, and why.
    Run(String),
    /// It was done, and what was found is not as it must be.
    Threshold(String),
    /// A signal of this number ended it early.
    Interrupted(i32),
    /// A mistake in evmux itself. The log has its place.
    Panicked,
}

impl Failure {
    /// The attempt to do `what` failed because of `why`.
    pub(crate) fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Run(format!("{what}: {why}"))
    }

    pub(crate) fn status(&self) -> ExitCode {
        match self {
            Self::Run(_) | Self::Panicked => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Threshold(_) => ExitCode::from(3),
            // As shells show a process that a signal ended.
            Self::Interrupted(signal) => ExitCode::from(128_u8.saturating_add(*signal as u8)),
        }
    }
}

impl From<Usage> for Failure {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage)
    }
}

impl From<evmux::Error> for Failure {
    fn from(error: evmux::Error) -> Self {
        Self::Run(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(usage) => f.write_str(&in_one_line(&usage.to_string())),
            Self::Run(what) | Self::Threshold(what) => f.write_str(&in_one_line(what)),
            Self::Interrupted(_) => f.write_str("interrupted: the figures are those of a part"),
            Self::Panicked => f.write_str(
                "a mistake in evmux itself ended it; please report the error in the log",
            ),
        }
    }
}

/// `text` with its line ends and other control characters spelt out: arguments and file names may
/// contain them.
pub(crate) fn in_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_the_file_is_called() {
        let failure = Failure::new("cannot open a\nb\x1b[1m", "not found");
        assert_eq!(failure.to_string(), r"cannot open a\nb\u{1b}[1m: not found");
    }
}
