//! What an operator asks for on the command line, beside serving.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use inproxy::cli::DEFAULT_CONFIG;
use inproxy::config::Config;
use inproxy::doctor::examine;
use tunnel::output::print;

/// Prints how the enclave is; the exit status is 1 if anything failed.
pub(crate) async fn doctor(
    config: &Config,
    path: &Path,
    addresses: &[IpAddr],
    json: bool,
) -> anyhow::Result<ExitCode> {
    let examination = examine(config, path, Path::new(DEFAULT_CONFIG), addresses).await;
    if json {
        print(&serde_json::to_string_pretty(&examination)?)?;
    } else {
        print(&examination.to_string())?;
    }
    Ok(if examination.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
