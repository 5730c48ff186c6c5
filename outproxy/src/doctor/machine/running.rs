//! Whether an outproxy runs, and with the configuration as it is now.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use tunnel::chain::Chain;
use tunnel::examination::Finding;
use tunnel::examination::processes::Serving;

use crate::admin::{FetchError, fetch};
use crate::config::Config;
use crate::status::{Reload, ReloadResult, Status};
use crate::tally::seconds_since_1970;

pub(super) async fn examine(config: &Config, path: &Path, serving: Option<&Serving>) -> Finding {
    let Some(endpoint) = &config.metrics else {
        return match serving {
            Some(Serving { pid }) => Finding::ok(
                SUBJECT,
                format!("runs as process {pid}; without `[metrics]` it cannot be asked for more"),
            ),
            None => not_running("no outproxy with this configuration is to be seen".into()),
        };
    };
    match fetch(endpoint, "/status").await {
        Ok(page) => match serde_json::from_str(&page) {
            Ok(status) => judge(&status, path),
            Err(_) => strange(format!("`{endpoint}` answers, but not as this version does")),
        },
        Err(error @ FetchError::Connect { .. }) if serving.is_none() => {
            not_running(format!("nobody answers: {}", Chain(&error)))
        }
        Err(error) => strange(Chain(&error).to_string()),
    }
}

fn judge(status: &Status, path: &Path) -> Finding {
    let version = &status.version;
    let same = |other: &Path| match (fs::canonicalize(other), fs::canonicalize(path)) {
        (Ok(one), Ok(other)) => one == other,
        _ => other == path,
    };
    if !same(Path::new(&status.config.path)) {
        return Finding::warning(
            SUBJECT,
            "other-configuration",
            format!("{version} runs with `{}`, not with `{}`", status.config.path, path.display()),
            "give that file to this command, too (`--config`), or another `[metrics] listen` to \
             each outproxy",
        );
    }
    let reload = status.config.last_reload.as_ref();
    if let Some(Reload { result: ReloadResult::Failed, error, .. }) = reload {
        let error = error.as_deref().unwrap_or_default();
        return Finding::warning(
            SUBJECT,
            "not-reloaded",
            format!("{version} runs with what the file was before: {error}"),
            "mend the file (`outproxy --check`), then `systemctl reload outproxy`",
        );
    }
    let started = seconds_since_1970().saturating_sub(status.uptime_seconds);
    let read = reload.map_or(started, |reload| reload.time);
    if modified(path).is_some_and(|modified| modified > read + EXACTNESS) {
        return Finding::warning(
            SUBJECT,
            "changed",
            format!("{version} runs, but `{}` has changed since it was read", path.display()),
            "`systemctl reload outproxy`",
        );
    }
    Finding::ok(SUBJECT, format!("{version} runs with this configuration"))
}

fn modified(path: &Path) -> Option<u64> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

fn not_running(found: String) -> Finding {
    Finding::warning(SUBJECT, "not-running", found, "`systemctl enable --now outproxy`")
}

fn strange(found: String) -> Finding {
    let advice = "see what listens there (`ss -lpn`), and how outproxy is: \
         `systemctl status outproxy`";
    Finding::warning(SUBJECT, "not-answering", found, advice)
}

const SUBJECT: &str = "outproxy";
/// The times are in whole seconds, of which each may be rounded.
const EXACTNESS: u64 = 1;
