//! Runs inside the enclave: makes remote services local, tunnels what connects to them, and
//! supervises the application.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use inproxy::config::Config;
use inproxy::server::{Duty, Server};
use tunnel::config::ConfigError;
use tunnel::{kernel, resources, telemetry};

/// Makes the addresses of remote services local to a Nitro Enclave, and tunnels every connection
/// to them over vsock to outproxy on the parent instance.
///
/// With a command it runs that as soon as every listener is bound, forwards signals to it, reaps
/// orphans, and exits as it exits (128 + n after signal n). Exit status without one: 0, 1 (failed
/// while running), 2 (usage), 78 (configuration).
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/inproxy.toml")]
    config: PathBuf,
    /// Only read the configuration; exit with 78 if it has mistakes.
    #[arg(long)]
    check: bool,
    /// The application, and its arguments.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let config = Config::load(&cli.config)?;
    if cli.check {
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::init(config.log)?;
    kernel::warn_of_hazards();
    let most = config.limits.max_connections;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let duty = Duty::new(&cli.command).context("failed to catch signals")?;
        let server = Server::bind(config).await?;
        // Only then, since the application would inherit it.
        let serving = || resources::raise_descriptor_limit_or_warn(most);
        Ok(server.run(duty, serving).await?)
    })
}

#[expect(clippy::print_stderr, reason = "the log may not be up, or be turned off")]
fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("inproxy: {error:#}");
    ExitCode::from(if error.is::<ConfigError>() { EX_CONFIG } else { 1 })
}

/// sysexits.h
const EX_CONFIG: u8 = 78;
