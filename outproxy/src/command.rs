//! What an operator asks for on the command line, beside serving.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use outproxy::admin::fetch;
use outproxy::cli::DEFAULT_CONFIG;
use outproxy::config::Config;
use outproxy::doctor::{Authorities, examine};
use outproxy::logs::{self, Wanted};
use outproxy::status::Status;
use tunnel::endpoint::Endpoint;
use tunnel::output::print;

/// Prints how the machine, the service and all destinations are; the exit status is 1 if anything
/// failed.
pub(crate) async fn doctor(
    config: &Config,
    path: &Path,
    authorities: Option<&Authorities>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let examination = examine(config, path, Path::new(DEFAULT_CONFIG), authorities).await;
    if json {
        print(&serde_json::to_string_pretty(&examination)?)?;
    } else {
        print(&examination.to_string())?;
    }
    Ok(if examination.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what a running outproxy with this configuration, which stands at `path`, knows.
pub(crate) async fn status(config: &Config, path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let endpoint = admin(config, path)?;
    let page = fetch(endpoint, "/status").await?;
    let status: Status = serde_json::from_str(&page).with_context(|| {
        format!("what `{endpoint}` answers is not the status of an outproxy of this version")
    })?;
    print(&if json { page } else { status.to_string() })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what enclaves have told a running outproxy with this configuration, which stands at
/// `path`.
pub(crate) async fn logs(
    config: &Config,
    path: &Path,
    wanted: &Wanted,
    json: bool,
) -> anyhow::Result<ExitCode> {
    logs::print(admin(config, path)?, wanted, json, io::stdout()).await?;
    Ok(ExitCode::SUCCESS)
}

/// Where a running outproxy with this configuration can be asked.
fn admin<'a>(config: &'a Config, path: &Path) -> anyhow::Result<&'a Endpoint> {
    config.metrics.as_ref().with_context(|| {
        format!(
            "`{}` has no `[metrics]`, so no outproxy can be asked; write into it\n\n\
             [metrics]\nlisten = \"tcp:127.0.0.1:9464\"\n\nand reload outproxy",
            path.display()
        )
    })
}
