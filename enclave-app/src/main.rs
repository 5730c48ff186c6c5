//! Runs in the enclave: creates, finds, uses and deletes keys in HSMs for whoever asks from the
//! parent instance.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use enclave_app::config::Config;
use enclave_app::secret::{
    Roots, RootsError, SecretConfig, SensitiveLogging, refuse_sensitive_logging,
};
use enclave_app::server::Server;
use enclave_app::service::Service;
use enclave_app::{hardening, worker};
use tunnel::config::ConfigError;
use tunnel::signals::Signals;
use tunnel::{kernel, resources, telemetry};

/// Serves requests for keys in HSMs, in a Nitro Enclave: fetches the crypto user's password from
/// Secrets Manager, logs in through PKCS#11, and answers host-client.
///
/// SIGTERM lets requests finish within `shutdown-grace`; a second one does not. Exit status: 0, 1
/// (failed while running), 2 (usage), 78 (configuration).
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true, version)]
struct Cli {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/enclave-app.toml")]
    config: PathBuf,
    /// Only read the configuration, and the CA bundle that it names; exit with 78 if either has
    /// mistakes.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What the application starts itself as, to load the PKCS#11 module.
    #[command(hide = true)]
    Worker,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    hardening::harden()?;
    if let Some(Command::Worker) = cli.command {
        return work();
    }
    let config = Config::load(&cli.config)?;
    let roots = Roots::load(config.secret.ca_bundle.as_deref())?;
    refuse_sensitive_logging()?;
    if cli.check {
        return Ok(());
    }
    telemetry::init(config.log)?;
    kernel::warn_of_hazards();
    resources::raise_descriptor_limit_or_warn(config.limits.max_connections);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(config, roots));
    // What a resolver or a device still does is not waited for.
    runtime.shutdown_timeout(LAST_THREADS);
    served
}

async fn serve(config: Config, roots: Roots) -> anyhow::Result<()> {
    let signals = Signals::install().context("failed to catch signals")?;
    let Config { listen, secret, hsm, limits, .. } = config;
    let secret = SecretConfig { name: secret.name, credentials: secret.credentials, roots };
    let service = Service::new(hsm, secret);
    let server = Server::bind(&listen, limits, service)?;
    server.run(signals).await;
    Ok(())
}

fn work() -> anyhow::Result<()> {
    let app = io::stdin().as_fd().try_clone_to_owned().context("failed to take standard input")?;
    Ok(worker::run(UnixStream::from(app))?)
}

#[expect(clippy::print_stderr, reason = "the log may not be up, or be turned off")]
fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("enclave-app: {error:#}");
    ExitCode::from(if is_configured(error) { EX_CONFIG } else { 1 })
}

/// Whether the cause is something that was configured, so that to start again is of no use.
fn is_configured(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>() || error.is::<RootsError>() || error.is::<SensitiveLogging>()
}

/// sysexits.h
const EX_CONFIG: u8 = 78;
/// How long threads that are stuck in the system may delay the end.
const LAST_THREADS: Duration = Duration::from_secs(1);
