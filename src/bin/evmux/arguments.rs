//! The command line and its environment variables, turned into plain values before anything is
//! done with them.
//!
//! clap splits the line, writes the help and knows where each text came from; what a text means
//! and whom it concerns is decided in the file of each command. Whatever is wrong becomes one
//! line, clap's own findings too.

mod about;
mod client;
mod compare;
mod endpoint;
mod given;
mod load;
mod read;
mod report;
mod resolve;
mod serve;
mod sniff;
mod threshold;
mod trace_text;
mod xmlrpc_value;

use std::ffi::OsString;
use std::fmt;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

pub(crate) use client::{ClientOptions, TcpOptions, UdpOptions, XmlRpcOptions};
pub(crate) use compare::CompareOptions;
pub(crate) use endpoint::Endpoint;
pub(crate) use load::{Json, LoadOptions};
pub(crate) use report::ReportOptions;
pub(crate) use resolve::ResolveOptions;
pub(crate) use serve::{ServeOptions, Served};
pub(crate) use sniff::SniffOptions;
pub(crate) use trace_text::TraceTextOptions;

/// What the command line asks for.
pub(crate) enum Command {
    /// `--help` or `--version`: clap's own text, for stdout.
    Explain(clap::Error),
    /// `evmux serve`.
    Serve(Box<ServeOptions>),
    /// `evmux client`.
    Client(ClientOptions),
    /// `evmux resolve`.
    Resolve(ResolveOptions),
    /// `evmux sniff`.
    Sniff(SniffOptions),
    /// `evmux load`.
    Load(Box<LoadOptions>),
    /// `evmux compare`.
    Compare(Box<CompareOptions>),
    /// `evmux report`.
    Report(ReportOptions),
    /// `evmux completions`: the text, for stdout.
    Completions(Vec<u8>),
    /// `evmux man`: likewise.
    Man(Vec<u8>),
    /// `evmux trace-text`.
    TraceText(TraceTextOptions),
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
    let line: Vec<OsString> = line.into_iter().collect();
    match Program::try_parse_from(&line) {
        Ok(Program { command }) => Ok(match command {
            Subcommands::Serve(arguments) => Command::Serve(Box::new(arguments.options()?)),
            Subcommands::Client(arguments) => Command::Client(arguments.options()?),
            Subcommands::Resolve(arguments) => Command::Resolve(arguments.options()?),
            Subcommands::Sniff(arguments) => Command::Sniff(arguments.options()?),
            Subcommands::Load(arguments) => Command::Load(Box::new(arguments.options()?)),
            Subcommands::Compare(arguments) => Command::Compare(Box::new(arguments.options()?)),
            Subcommands::Report(arguments) => Command::Report(arguments.options()),
            Subcommands::Completions { shell } => Command::Completions(about::completions(&shell)?),
            Subcommands::Man => Command::Man(about::manual()),
            Subcommands::TraceText(arguments) => Command::TraceText(arguments.options()?),
        }),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Command::Explain(error)),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(missing_command(&line)),
            _ => Err(Usage(one_line(&error.render().to_string()))),
        },
    }
}

/// What may stand behind the last word of `line`, which needs another one.
fn missing_command(line: &[OsString]) -> Usage {
    let program = Program::command();
    let (mut command, mut name) = (&program, "evmux".to_owned());
    for word in line.iter().skip(1) {
        if let Some(inner) = word.to_str().and_then(|word| command.find_subcommand(word)) {
            name = format!("{name} {}", inner.get_name());
            command = inner;
        }
    }
    let known: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
    Usage(format!("a command is missing: {} (see '{name} --help')", known.join(", ")))
}

/// Servers that show the classic ways of waiting for many connections, and clients for them
#[derive(Parser)]
#[command(name = "evmux", version, max_term_width = 100)]
struct Program {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    Serve(Box<serve::Arguments>),
    Client(client::Arguments),
    Resolve(resolve::Arguments),
    Sniff(sniff::Arguments),
    Load(Box<load::Arguments>),
    Compare(Box<compare::Arguments>),
    Report(report::Arguments),
    /// Print the completions of a shell for the command line of evmux
    Completions {
        /// bash, elvish, fish, powershell or zsh
        #[arg(value_name = "SHELL")]
        shell: String,
    },
    /// Print the manual page of evmux, in roff: evmux man | man -l -
    Man,
    TraceText(trace_text::Arguments),
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
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Program::command().debug_assert();
    }

    #[test]
    fn every_variable_has_the_name_of_its_option() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let expected = argument
                    .get_long()
                    .map(|name| format!("EVMUX_{}", name.replace('-', "_").to_uppercase()));
                let found = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(found, expected);
            }
            command.get_subcommands().for_each(check);
        }
        check(&Program::command());
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
            parse(&["evmux", "client"]),
            parse(&["evmux", "client", "frobnicate"]),
            parse(&["evmux", "client", "tcp"]),
            parse(&["evmux", "client", "tcp", "localhost"]),
            parse(&["evmux", "client", "udp", "localhost:9", "x", "--retry-after", "soon"]),
            parse(&["evmux", "sniff", "--count", "0"]),
            parse(&["evmux", "load"]),
            parse(&["evmux", "load", "localhost:9", "--rate", "0"]),
            parse(&["evmux", "completions", "tcsh"]),
        ] {
            assert!(!line.contains('\n'), "{line}");
            assert!(!line.contains("Usage"), "{line}");
            assert!(line.ends_with(" --help')"), "{line}");
        }
    }

    #[test]
    fn what_looks_like_an_option_is_an_argument_where_one_is_expected() {
        let parse = |words: &[&str]| parse(words.iter().map(OsString::from));
        for words in [
            &["evmux", "client", "tcp", "localhost:9", "-4"][..],
            &["evmux", "client", "udp", "localhost:9", "-4.5"],
            &["evmux", "client", "blocks", "localhost:9", "1", "-4", "-5"],
            &["evmux", "client", "tcp", "localhost:9", "--", "--help"],
            &["evmux", "client", "xmlrpc", "http://localhost", "quadratic", "-4", "-x", "--help"],
        ] {
            assert!(parse(words).is_ok(), "{words:?}");
        }
    }
}
