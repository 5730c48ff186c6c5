//! What is generated from the command line's own description: completions and the manual page.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::files;

/// Prints a script for a shell.
#[must_use]
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    print(&script)
}

/// Prints the manual page: one for all actions.
#[must_use]
pub fn man() -> ExitCode {
    let mut page = Vec::new();
    match render(&mut page) {
        Ok(()) => print(&page),
        Err(_) => ExitCode::FAILURE,
    }
}

fn render(page: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let man = Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    writeln!(page, ".SH ACTIONS")?;
    for action in command.get_subcommands().filter(|action| action.get_name() != "help") {
        render_action(page, action)?;
    }
    man.render_extra_section(page)?;
    man.render_version_section(page)
}

/// An action is a section of its own, with the options that only it has.
fn render_action(page: &mut Vec<u8>, action: &Command) -> io::Result<()> {
    let name = action.get_name().to_owned();
    let own = action.clone().mut_args(|arg| {
        let hidden = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(hidden)
    });
    let mut text = Vec::new();
    let man = Man::new(own);
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    writeln!(page, ".SS {}", name.replace('-', r"\-"))?;
    for line in String::from_utf8_lossy(&text).lines().filter(|line| !line.starts_with(".SH ")) {
        writeln!(page, "{line}")?;
    }
    Ok(())
}

fn print(bytes: &[u8]) -> ExitCode {
    match files::write(None, bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

const NAME: &str = "host-client";
