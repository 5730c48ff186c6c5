//! Runs in the enclave: creates, finds, uses and deletes keys in HSMs for whoever asks from the
//! parent instance.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use enclave_app::cli::{Cli, Command, PAGE};
use enclave_app::config::Config;
use enclave_app::secret::{
    Roots, RootsError, SecretConfig, SensitiveLogging, refuse_sensitive_logging,
};
use enclave_app::server::Server;
use enclave_app::service::Service;
use enclave_app::{hardening, worker};
use tunnel::config::ConfigError;
use tunnel::signals::Signals;
use tunnel::{kernel, output, resources, telemetry};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    hardening::harden()?;
    match cli.command {
        Some(Command::Document(document)) => {
            return Ok(output::print(&document.text::<Cli>(&PAGE))?);
        }
        Some(Command::Worker) => return work(),
        None => {}
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
    hardening::die_with_parent()?;
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
