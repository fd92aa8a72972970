//! The text of an option, and where it came from.
//!
//! clap hands every text on as it is, instead of judging it: a variable may be set once for all
//! servers of a machine, so that one which does not concern this server is ignored whatever it
//! holds, while such a flag is a mistake that its writer wants to hear of. An empty variable
//! counts as unset.

use std::ffi::{OsStr, OsString};

use clap::Arg;
use clap::builder::{TypedValueParser, ValueParserFactory};
use clap::parser::ValueSource;

use super::Usage;

/// What was given for an option: by the flag, else by its variable, else by default.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// Empty only when the flag itself was given so, or when an empty variable has no default.
    text: OsString,
    /// The option as its writer knows it: `--threads` or `EVMUX_THREADS`.
    name: String,
    /// The command that it belongs to: `evmux serve`.
    command: String,
    is_flag: bool,
}

impl Given {
    /// The same, unless it is an empty variable.
    pub(super) fn set(self) -> Option<Self> {
        (self.is_flag || !self.text.is_empty()).then_some(self)
    }

    /// The same, if it concerns what is served. Otherwise a flag is a mistake, and what else was
    /// given is nothing.
    pub(super) fn only_for(self, whom: &str, concerned: bool) -> Result<Option<Self>, Usage> {
        match (concerned, self.is_flag) {
            (true, _) => Ok(self.set()),
            (false, false) => Ok(None),
            (false, true) => Err(Usage(format!(
                "{} is for {whom} only: leave it out, or choose that (see '{} --help')",
                self.name, self.command
            ))),
        }
    }

    /// What `read` makes of the text.
    pub(super) fn read<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Usage> {
        match self.text.to_str() {
            Some(text) => read(text).map_err(|why| self.wrong(&why)),
            None => Err(self.wrong("is not UTF-8")),
        }
    }

    /// What is wrong with it, and why.
    pub(super) fn wrong(&self, why: &str) -> Usage {
        let text = self.text.display();
        Usage(format!("{} '{text}': {why} (see '{} --help')", self.name, self.command))
    }

    /// Whether it was given on the command line.
    pub(super) fn is_flag(&self) -> bool {
        self.is_flag
    }

    /// The text itself.
    pub(super) fn text(&self) -> &OsStr {
        &self.text
    }

    /// The texts of an option that may be repeated: those of its variable stand between spaces.
    pub(super) fn each(all: Vec<Self>) -> Vec<Self> {
        let split = |given: Self| match given.text.to_str() {
            Some(text) if !given.is_flag => text
                .split_ascii_whitespace()
                .map(|part| Self { text: part.into(), ..given.clone() })
                .collect(),
            _ => vec![given],
        };
        all.into_iter().flat_map(split).collect()
    }
}

impl ValueParserFactory for Given {
    type Parser = AsItIs;

    fn value_parser() -> AsItIs {
        AsItIs
    }
}

/// Takes every text, and notes where it came from.
#[derive(Clone)]
pub(super) struct AsItIs;

impl TypedValueParser for AsItIs {
    type Value = Given;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&Arg>,
        text: &OsStr,
    ) -> Result<Given, clap::Error> {
        self.parse_ref_(command, argument, text, ValueSource::CommandLine)
    }

    fn parse_ref_(
        &self,
        command: &clap::Command,
        argument: Option<&Arg>,
        text: &OsStr,
        source: ValueSource,
    ) -> Result<Given, clap::Error> {
        let flag = argument.and_then(Arg::get_long).unwrap_or_default();
        let variable = argument.and_then(Arg::get_env).unwrap_or_default();
        let default = argument.and_then(|argument| argument.get_default_values().first());
        let by_variable = source == ValueSource::EnvVariable;
        Ok(Given {
            text: match default {
                Some(default) if by_variable && text.is_empty() => default.into(),
                _ => text.into(),
            },
            name: if by_variable { variable.display().to_string() } else { format!("--{flag}") },
            command: command.get_bin_name().unwrap_or(command.get_name()).to_owned(),
            is_flag: source == ValueSource::CommandLine,
        })
    }
}
