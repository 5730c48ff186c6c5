//! Runs on the parent instance: sends one request to enclave-app and prints the answer.

use std::process::ExitCode;

use clap::Parser;
use host_client::ask;
use host_client::cli::{Cli, Command, PAGE};
use tunnel::output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Act(act) => ask::run(&cli.options, &act),
        Command::Document(document) => match output::print(&document.text::<Cli>(&PAGE)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}
