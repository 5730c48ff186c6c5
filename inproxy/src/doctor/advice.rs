//! What an operator does on the host about a tunnel that is refused.

use std::borrow::Cow;
use std::io;

use nix::libc;
use tunnel::destination::Destination;
use tunnel::endpoint::Endpoint;

/// A word, what happened, and what to do, if an endpoint cannot be connected to.
pub(super) fn on_connect(
    endpoint: &Endpoint,
    error: &io::Error,
) -> (&'static str, String, Cow<'static, str>) {
    let port = match endpoint {
        Endpoint::Vsock { port, .. } => format!("vsock:any:{port}"),
        _ => endpoint.to_string(),
    };
    let listen = format!(
        "on the host, see that outproxy runs (`systemctl status outproxy`) and has a `[[listen]]` \
         `on = \"{port}\"` (`outproxy status`)"
    );
    let is_vsock = matches!(endpoint, Endpoint::Vsock { .. });
    match error.raw_os_error() {
        Some(libc::ECONNRESET | libc::ECONNREFUSED | libc::ENOENT) => {
            ("nobody-listens", "nobody listens there".into(), listen.into())
        }
        Some(libc::ENODEV | libc::EAFNOSUPPORT) if is_vsock => (
            "no-vsock",
            "nothing carries vsock there".into(),
            "load the module: `modprobe vmw_vsock_virtio_transport`; the parent of a Nitro \
             Enclave is CID 3"
                .into(),
        ),
        Some(libc::ETIMEDOUT) if is_vsock => (
            "no-such-cid",
            "no machine answers under this CID".into(),
            "write the CID of the parent, which is 3 for a Nitro Enclave, and 2 elsewhere".into(),
        ),
        Some(libc::EAGAIN) => (
            "busy",
            "it has more connections waiting than it takes".into(),
            "on the host, see why outproxy does not take them: `journalctl -u outproxy`".into(),
        ),
        _ if error.kind() == io::ErrorKind::TimedOut => {
            ("timed-out", "no answer in time".into(), listen.into())
        }
        _ => ("unreachable", error.to_string(), listen.into()),
    }
}

/// A word, and what to do, if outproxy refuses a tunnel for a reason of RFC 9209 section 2.3.
pub(super) fn on_refusal(
    error: Option<&str>,
    destination: &Destination,
) -> (&'static str, Cow<'static, str>) {
    let Destination { host, port } = destination;
    match error {
        Some("http_request_denied") => (
            "denied",
            format!(
                "on the host, write `{host}` and port {port} into an `[[allow]]` of outproxy.toml, \
                 and the CID of this enclave if that has `cids`; then `systemctl reload outproxy`"
            )
            .into(),
        ),
        Some("dns_error" | "dns_timeout") => (
            "not-resolved",
            "on the host, see that its name servers know the name: `outproxy doctor`".into(),
        ),
        Some("destination_ip_prohibited") => (
            "prohibited",
            "on the host, if that address is meant, list it in `hosts` beside the name".into(),
        ),
        Some("connection_refused") => (
            "refused",
            "see that the service runs and listens on that port; on the host, `outproxy doctor` \
             tells more"
                .into(),
        ),
        Some("connection_timeout" | "destination_ip_unroutable" | "destination_unavailable") => (
            "unreachable",
            "on the host, `outproxy doctor`: mostly it is a security group, a route, or a service \
             that is down"
                .into(),
        ),
        Some("connection_limit_reached") => (
            "limit",
            "on the host, see what is open (`outproxy status`), and raise `max-connections`".into(),
        ),
        Some("proxy_internal_error") => (
            "host-failure",
            "on the host, `journalctl -u outproxy`; mostly it lacks descriptors (LimitNOFILE=)"
                .into(),
        ),
        _ => ("refused-by-proxy", "on the host, `journalctl -u outproxy` tells more".into()),
    }
}

pub(super) const NO_ANSWER: &str = "on the host, see that outproxy is well (`outproxy status`), and whether the destination is \
     silent (`outproxy doctor`)";
