//! The names of all metrics, in one place.

/// Counter: times that accept(2) failed for want of something, and was tried again.
pub const ACCEPT_ERRORS: &str = "tunnel_accept_errors_total";
/// Counter, labels `rule` or `forward`, and `outcome`: connections that ended or were refused.
pub const CONNECTIONS: &str = "tunnel_connections_total";
/// Gauge: connections that are open.
pub const CONNECTIONS_OPEN: &str = "tunnel_connections_open";
/// Counter, label `direction` (`sent` or `received`, seen from the client): payload bytes.
pub const BYTES: &str = "tunnel_bytes_total";
/// Histogram, seconds: from the request for a destination to the connection with it.
pub const CONNECT_SECONDS: &str = "tunnel_connect_seconds";
/// Counter, label `result` (`ok` or `failed`): reloads of the configuration.
pub const RELOADS: &str = "tunnel_reloads_total";
/// Gauge, always 1, label `version`.
pub const BUILD_INFO: &str = "tunnel_build_info";
