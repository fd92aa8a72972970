//! The command line and its environment variables, turned into plain values before anything is
//! done with them.
//!
//! clap splits the line, writes the help and knows where each text came from; what a text means
//! and whom it concerns is decided in the file of each command. Whatever is wrong becomes one
//! line, clap's own findings too.

mod given;
mod read;
mod serve;

use std::ffi::OsString;
use std::fmt;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

pub(crate) use serve::{ServeOptions, Served};

/// What the command line asks for.
pub(crate) enum Command {
    /// `--help` or `--version`: clap's own text, for stdout.
    Explain(clap::Error),
    /// `evmux serve`.
    Serve(Box<ServeOptions>),
}

/// What is wrong with the command line, in one line: what, where, and what to do.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the command line, whose first word is the program's name, and the variables.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Command, Usage> {
    match Program::try_parse_from(line) {
        Ok(Program { command: Subcommands::Serve(arguments) }) => {
            Ok(Command::Serve(Box::new(arguments.options()?)))
        }
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Command::Explain(error)),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Err(Usage("a command is missing: serve (see 'evmux --help')".into()))
            }
            _ => Err(Usage(one_line(&error.render().to_string()))),
        },
    }
}

/// TCP servers that show the classic ways of waiting for many connections
#[derive(Parser)]
#[command(name = "evmux", version, max_term_width = 100)]
struct Program {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    Serve(Box<serve::Arguments>),
}

/// What clap says in several paragraphs, in one line: the first of them, and the tips.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let (what, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut line = what.split_whitespace().collect::<Vec<_>>().join(" ");
    for tip in rest.lines().filter_map(|line| line.trim().strip_prefix("tip: ")) {
        line.push_str("; ");
        line.push_str(tip);
    }
    line.push_str(" (see 'evmux --help')");
    line
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Program::command().debug_assert();
    }

    #[test]
    fn every_variable_has_the_name_of_its_option() {
        let program = Program::command();
        for command in program.get_subcommands() {
            for argument in command.get_arguments() {
                let expected = argument
                    .get_long()
                    .map(|name| format!("EVMUX_{}", name.replace('-', "_").to_uppercase()));
                let found = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn what_clap_finds_becomes_one_line() {
        let parse = |words: &[&str]| match parse(words.iter().map(OsString::from)) {
            Ok(_) => panic!("{words:?} was taken"),
            Err(usage) => usage.to_string(),
        };
        for line in [
            parse(&["evmux"]),
            parse(&["evmux", "frobnicate"]),
            parse(&["evmux", "serve", "--modle", "poll"]),
            parse(&["evmux", "serve", "--model"]),
            parse(&["evmux", "serve", "--model", "poll", "--model", "poll"]),
            parse(&["evmux", "serve", "--once=yes"]),
            parse(&["evmux", "serve", "stray"]),
        ] {
            assert!(!line.contains('\n'), "{line}");
            assert!(!line.contains("Usage"), "{line}");
            assert!(line.ends_with(" --help')"), "{line}");
        }
    }
}
