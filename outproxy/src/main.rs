//! Runs on the parent instance: accepts connections from enclaves and relays them to the TCP
//! services that the allowlist names.

mod command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use outproxy::config::Config;
use outproxy::recorder::Recorder;
use outproxy::server::Server;
use tunnel::config::ConfigError;
use tunnel::signals::Signals;
use tunnel::{kernel, resources, telemetry};

/// Accepts vsock connections from Nitro Enclaves and relays them to the TCP services that the
/// configuration allows.
///
/// SIGHUP reads the configuration again; a file with mistakes changes nothing. SIGTERM lets
/// connections finish within `shutdown-grace`; a second one does not. Exit status: 0, 1 (failed
/// while running), 2 (usage), 78 (configuration).
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/outproxy/outproxy.toml")]
    config: PathBuf,
    /// Only read the configuration; exit with 78 if it has mistakes.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Resolve and dial every host that is allowed, on every port; exit with 1 if any fails.
    Doctor {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Ask a running outproxy what it knows: connections, rules, the last errors.
    Status {
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = Config::load(&cli.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match cli.command {
        Some(Command::Doctor { json }) => runtime.block_on(command::doctor(&config, json)),
        Some(Command::Status { json }) => {
            runtime.block_on(command::status(&config, &cli.config, json))
        }
        None if cli.check => Ok(ExitCode::SUCCESS),
        None => runtime.block_on(serve(config, cli.config)),
    }
}

async fn serve(config: Config, path: PathBuf) -> anyhow::Result<ExitCode> {
    let log = telemetry::init(config.log)?;
    kernel::warn_of_hazards();
    let recorder = Recorder::install()?;
    resources::raise_descriptor_limit_or_warn(config.limits.max_connections);
    let signals = Signals::install()?;
    let server = Server::bind(config, path, log, recorder)?;
    server.run(signals).await;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "the log may not be up, or be turned off")]
fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("outproxy: {error:#}");
    ExitCode::from(if error.is::<ConfigError>() { EX_CONFIG } else { 1 })
}

/// sysexits.h
const EX_CONFIG: u8 = 78;
