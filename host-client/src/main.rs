//! Runs on the parent instance: sends one request to enclave-app and prints the answer.

use std::process::ExitCode;

use clap::Parser;
use host_client::ask;
use host_client::cli::{Cli, Command};
use host_client::documents;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Completions { shell } => documents::completions(shell),
        Command::Man => documents::man(),
        Command::Act(act) => ask::run(&cli.options, &act),
    }
}
