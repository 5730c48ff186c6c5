//! Runs on the parent instance: accepts connections from enclaves and relays them to the TCP
//! services that the allowlist names.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use outproxy::config::Config;
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
    #[arg(long, value_name = "FILE", default_value = "/etc/outproxy/outproxy.toml")]
    config: PathBuf,
    /// Only read the configuration; exit with 78 if it has mistakes.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let config = Config::load(&cli.config)?;
    if cli.check {
        return Ok(());
    }
    let log = telemetry::init(config.log)?;
    kernel::warn_of_hazards();
    resources::raise_descriptor_limit_or_warn(config.limits.max_connections);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::install()?;
        let server = Server::bind(config, cli.config, log)?;
        server.run(signals).await;
        Ok(())
    })
}

#[expect(clippy::print_stderr, reason = "the log may not be up, or be turned off")]
fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("outproxy: {error:#}");
    ExitCode::from(if error.is::<ConfigError>() { EX_CONFIG } else { 1 })
}

/// sysexits.h
const EX_CONFIG: u8 = 78;
