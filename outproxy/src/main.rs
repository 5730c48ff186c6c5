//! Runs on the parent instance: accepts connections from enclaves and relays them to the TCP
//! services that the allowlist names.

mod command;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use outproxy::cli::{Cli, Command, PAGE};
use outproxy::config::Config;
use outproxy::doctor::{Authorities, AuthoritiesError};
use outproxy::handover::Inherited;
use outproxy::import;
use outproxy::logs::Wanted;
use outproxy::recorder::Recorder;
use outproxy::server::Server;
use tokio::runtime::Runtime;
use tunnel::config::ConfigError;
use tunnel::import::ImportError;
use tunnel::signals::Signals;
use tunnel::{event_loop, kernel, output, resources, telemetry};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let inherited = Inherited::take();
    let config = || Config::load(&cli.config);
    match cli.command {
        Some(Command::Doctor { json, ca }) => {
            let authorities = ca.as_deref().map(Authorities::load).transpose()?;
            let config = config()?;
            let doctor = command::doctor(&config, &cli.config, authorities.as_ref(), json);
            runtime()?.block_on(doctor)
        }
        Some(Command::Document(document)) => {
            output::print(&document.text::<Cli>(&PAGE))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Import { files }) => {
            output::print(&import::import(&files)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Logs { cid, follow, json, lines }) => {
            let wanted = Wanted { only: cid, lines, follow };
            runtime()?.block_on(command::logs(&config()?, &cli.config, &wanted, json))
        }
        Some(Command::Status { json }) => {
            runtime()?.block_on(command::status(&config()?, &cli.config, json))
        }
        None if cli.check => Ok(config().map(|_| ExitCode::SUCCESS)?),
        None => serve(config()?, cli.config, inherited),
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn serve(config: Config, path: PathBuf, inherited: Inherited) -> anyhow::Result<ExitCode> {
    let log = telemetry::init(config.log)?;
    kernel::warn_of_hazards();
    let recorder = Recorder::install()?;
    resources::raise_descriptor_limit_or_warn(config.limits.max_connections);
    event_loop::run(async {
        let signals = Signals::install()?;
        let server = Server::open(config, path, log, recorder, inherited).await?;
        server.run(signals).await;
        Ok(ExitCode::SUCCESS)
    })?
}

#[expect(clippy::print_stderr, reason = "the log may not be up, or be turned off")]
fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("outproxy: {error:#}");
    ExitCode::from(if is_about_a_file(error) { EX_CONFIG } else { 1 })
}

/// The configuration, or one that was given on the command line.
fn is_about_a_file(error: &anyhow::Error) -> bool {
    error.is::<AuthoritiesError>() || error.is::<ConfigError>() || error.is::<ImportError>()
}

/// sysexits.h
const EX_CONFIG: u8 = 78;
