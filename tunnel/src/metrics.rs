//! All metrics: their names, and what they count.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Counter: times that accept(2) failed for want of something, and was tried again.
pub const ACCEPT_ERRORS: &str = "tunnel_accept_errors_total";
/// Counter, labels `rule` or `forward`, and `outcome`: connections that ended or were refused.
pub const CONNECTIONS: &str = "tunnel_connections_total";
/// Gauge: connections that are open.
pub const CONNECTIONS_OPEN: &str = "tunnel_connections_open";
/// Counter, label `direction` (`sent` or `received`, seen from the client): payload bytes of
/// connections that ended.
pub const BYTES: &str = "tunnel_bytes_total";
/// Histogram, seconds: from the request for a destination to the connection with it.
pub const CONNECT_SECONDS: &str = "tunnel_connect_seconds";
/// Counter, label `result` (`ok` or `failed`): reloads of the configuration.
pub const RELOADS: &str = "tunnel_reloads_total";
/// Gauge, always 1, label `version`.
pub const BUILD_INFO: &str = "tunnel_build_info";
/// Counter: times that outproxy used an answer of a name server after its TTL.
pub const DNS_STALE_ANSWERS: &str = "outproxy_dns_stale_answers_total";

/// Tells the recorder of this process what its metrics mean.
///
/// Those that this program does not have are described too; no recorder shows them.
pub fn describe() {
    describe_counter!(
        ACCEPT_ERRORS,
        Unit::Count,
        "Times that accept(2) failed for want of something, and was tried again."
    );
    describe_counter!(CONNECTIONS, Unit::Count, "Connections that ended or were refused.");
    describe_gauge!(CONNECTIONS_OPEN, Unit::Count, "Connections that are open.");
    describe_counter!(
        BYTES,
        Unit::Bytes,
        "Payload bytes of connections that ended; sent and received are seen from the client."
    );
    describe_histogram!(
        CONNECT_SECONDS,
        Unit::Seconds,
        "Time from the request for a destination to the connection with it."
    );
    describe_counter!(RELOADS, Unit::Count, "Reloads of the configuration.");
    describe_gauge!(BUILD_INFO, Unit::Count, "Always 1; the label tells the version.");
    describe_counter!(
        DNS_STALE_ANSWERS,
        Unit::Count,
        "Times that an answer of a name server was used after its TTL."
    );
}
