//! What the command line can tell about itself: completions for shells, and the manual page. Both
//! are made from the definition that also reads the line and writes the help.

use std::io::{self, Write};

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Program, Usage};

/// A script for `shell`.
pub(super) fn completions(shell: &str) -> Result<Vec<u8>, Usage> {
    let shell = Shell::from_str(shell, false).map_err(|_| {
        let known = Shell::value_variants().iter().map(Shell::to_string);
        let known = known.collect::<Vec<_>>().join(", ");
        Usage(format!("SHELL '{shell}': choose one of {known} (see 'evmux completions --help')"))
    })?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Program::command(), "evmux", &mut script);
    Ok(script)
}

/// One page for all commands.
pub(super) fn manual() -> Vec<u8> {
    let mut page = Vec::new();
    // Nothing can go wrong with writing to memory.
    let written = write_manual(&mut page);
    debug_assert!(written.is_ok());
    page
}

fn write_manual(page: &mut Vec<u8>) -> io::Result<()> {
    let mut program = Program::command().disable_help_subcommand(true);
    program.build();
    let head = Man::new(program.clone()).section("1").manual("evmux");
    head.render_title(page)?;
    head.render_name_section(page)?;
    head.render_synopsis_section(page)?;
    head.render_description_section(page)?;
    for command in program.get_subcommands() {
        write_command(page, command, "evmux")?;
    }
    head.render_version_section(page)
}

/// A section for a command, and one for each below it.
fn write_command(page: &mut Vec<u8>, command: &Command, parent: &str) -> io::Result<()> {
    let name = format!("{parent} {}", command.get_name());
    writeln!(page, ".SH \"{}\"", name.to_uppercase())?;
    let man = Man::new(command.clone().bin_name(&name));
    let mut parts = Vec::new();
    man.render_description_section(&mut parts)?;
    man.render_synopsis_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    if command.get_after_help().is_some() {
        man.render_extra_section(&mut parts)?;
    }
    // What would be sections of a page of its own are parts of this one.
    for line in String::from_utf8_lossy(&parts).lines() {
        match line.strip_prefix(".SH ") {
            Some(heading) => writeln!(page, ".SS {heading}")?,
            // Each section begins with how roff shall write apostrophes, and once is enough.
            None => writeln!(page, "{line}")?,
        }
    }
    command.get_subcommands().try_for_each(|inner| write_command(page, inner, &name))
}
