//! What this application says of itself.

use std::time::Duration;

use protocol::action::{Description, HsmDescription, NsmDescription, SecretDescription};

/// An application that runs for so long, and what it works with.
pub(crate) fn description(
    uptime: Duration,
    hsm: HsmDescription,
    secret: Option<SecretDescription>,
    nsm: Option<NsmDescription>,
) -> Description {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Description { version, uptime_seconds: uptime.as_secs(), hsm, secret, nsm }
}
