//! Runs inside the enclave: makes remote services local, tunnels what connects to them, and
//! supervises the application.

mod command;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use inproxy::cli::{Cli, Command, PAGE};
use inproxy::config::Config;
use inproxy::import;
use inproxy::outbox::Outbox;
use inproxy::server::{Duty, Server};
use inproxy::telemetry::Telemetry;
use tokio::runtime::Runtime;
use tunnel::config::ConfigError;
use tunnel::import::ImportError;
use tunnel::{event_loop, kernel, output, resources, telemetry};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Some(Command::Doctor { json, address }) => {
            let config = Config::load(&cli.config)?;
            return runtime()?.block_on(command::doctor(&config, &cli.config, address, *json));
        }
        Some(Command::Document(document)) => output::print(&document.text::<Cli>(&PAGE))?,
        Some(Command::Import { files }) => output::print(&import::import(files)?)?,
        None if cli.check => drop(Config::load(&cli.config)?),
        None => return serve(Config::load(&cli.config)?, &cli.application),
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(config: Config, application: &[OsString]) -> anyhow::Result<ExitCode> {
    let outbox = config.telemetry.map(|_| Arc::new(Outbox::default()));
    telemetry::init_with(config.log, outbox.clone().map(inproxy::telemetry::copy))?;
    kernel::warn_of_hazards();
    event_loop::run(async {
        let duty = Duty::new(application).context("failed to catch signals")?;
        let mut telemetry = outbox.map(|outbox| Telemetry::start(&config, outbox));
        let result = do_duty(config, duty, telemetry.as_mut()).await;
        if let Some(telemetry) = telemetry {
            let failure = result.as_ref().err().map(|error| format!("{error:#}"));
            telemetry.finish(failure.as_deref()).await;
        }
        result
    })?
}

async fn do_duty(
    config: Config,
    duty: Duty<'_>,
    mut telemetry: Option<&mut Telemetry>,
) -> anyhow::Result<ExitCode> {
    let most = config.limits.max_connections;
    let server = Server::bind(config).await?;
    if let Some(telemetry) = &mut telemetry {
        telemetry.watch(Arc::clone(server.forwarder()));
        telemetry.attempted().await;
    }
    // Only then, since the application would inherit it.
    let serving = || resources::raise_descriptor_limit_or_warn(most);
    Ok(server.run(duty, telemetry.as_deref(), serving).await?)
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

#[expect(clippy::print_stderr, reason = "the log may not be up, or be turned off")]
fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("inproxy: {error:#}");
    let is_file = error.is::<ConfigError>() || error.is::<ImportError>();
    ExitCode::from(if is_file { EX_CONFIG } else { 1 })
}

/// sysexits.h
const EX_CONFIG: u8 = 78;
