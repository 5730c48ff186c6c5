//! Whether the endpoints can be listened on, or are.

use std::fs;
use std::path::Path;

use tunnel::endpoint::{Cid, Endpoint};
use tunnel::examination::Finding;
use tunnel::examination::processes::Serving;
use tunnel::listener::{self, ListenError};

/// `serving` is the outproxy that is to listen, if it runs.
pub(super) fn examine(endpoint: &Endpoint, serving: Option<&Serving>) -> Finding {
    let is_taken = match endpoint {
        Endpoint::Unix(path) => Ok(is_listened_on(path)),
        Endpoint::Tcp(_) | Endpoint::Vsock { .. } => match listener::try_bind(endpoint) {
            Ok(()) => Ok(false),
            Err(error) if error.is_taken() => Ok(true),
            Err(error) => Err(error),
        },
    };
    let subject = format!("listener {endpoint}");
    let clash = clash(endpoint);
    match (is_taken, serving) {
        (Ok(true), Some(Serving { pid })) => match clash {
            Some((problem, found, advice)) if problem == HEARTBEAT => {
                Finding::failed(subject, problem, found, advice)
            }
            _ => Finding::ok(subject, format!("outproxy (process {pid}) listens")),
        },
        (Ok(false), Some(Serving { pid })) => Finding::warning(
            subject,
            "not-listening",
            format!("outproxy (process {pid}) does not listen there"),
            "if the configuration has changed, `systemctl reload outproxy`; see \
             `journalctl -u outproxy`",
        ),
        (Ok(true), None) => {
            let whose = clash.map(|(_, found, _)| format!(": {found}")).unwrap_or_default();
            Finding::failed(
                subject,
                "taken",
                format!("another program listens there{whose}"),
                "stop that program (`ss -lpn --vsock --tcp --unix` shows it), or write another \
                 port here and in the enclave",
            )
        }
        (Ok(false), None) => match clash {
            Some((problem, found, advice)) if problem == HEARTBEAT => {
                Finding::failed(subject, problem, found, advice)
            }
            Some((problem, found, advice)) => Finding::warning(subject, problem, found, advice),
            None => Finding::ok(subject, "is free"),
        },
        (Err(error), _) => unusable(subject, &error),
    }
}

fn unusable(subject: String, error: &ListenError) -> Finding {
    if error.is_denied() {
        // Whether the service may is another finding.
        let found = "this user may not try it: ports below 1024 need CAP_NET_BIND_SERVICE";
        return Finding::skipped(subject, found);
    }
    let found = tunnel::chain::Chain(error).to_string();
    Finding::failed(subject, "cannot-listen", found, "write an endpoint that this machine has")
}

/// What else is often found on a port, and what to do about it.
fn clash(endpoint: &Endpoint) -> Option<(&'static str, &'static str, &'static str)> {
    let Endpoint::Vsock { cid, port } = endpoint else { return None };
    match port.get() {
        8000 => Some((
            "vsock-proxy",
            "AWS's vsock-proxy listens on port 8000 where its service is started",
            "write another port here and in the enclave, or \
             `systemctl disable --now nitro-enclaves-vsock-proxy`",
        )),
        9000 if [Cid::ANY, Cid::new(3)].contains(cid) => Some((
            HEARTBEAT,
            "nitro-cli listens on port 9000 for the heartbeat of an enclave that starts: \
             none could be started",
            "write another port here and in the enclave",
        )),
        _ => None,
    }
}

/// Whether somebody listens on a Unix socket. To connect would disturb whoever does.
fn is_listened_on(path: &Path) -> bool {
    let Ok(sockets) = fs::read_to_string("/proc/net/unix") else { return false };
    let Some(path) = path.to_str() else { return false };
    sockets.lines().any(|line| {
        // Num RefCount Protocol Flags Type St Inode Path, and the path may have blanks.
        line.split_whitespace().nth(3) == Some(ACCEPTS)
            && line.strip_suffix(path).is_some_and(|rest| rest.ends_with(' '))
    })
}

const HEARTBEAT: &str = "heartbeat";
/// `__SO_ACCEPTCON` in Linux.
const ACCEPTS: &str = "00010000";

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    const THIS: fn() -> Serving = || Serving { pid: std::process::id() };

    #[test]
    fn an_endpoint_is_free_taken_or_our_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("routed by us");
        let unix = format!("unix:{}", path.display()).parse().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound: Endpoint = format!("tcp:{}", tcp.local_addr().unwrap()).parse().unwrap();
        for endpoint in [&unix, &bound] {
            let listening = UnixListener::bind(&path);
            assert_eq!(examine(endpoint, None).problem, Some("taken"));
            assert_eq!(examine(endpoint, Some(&THIS())).problem, None);
            drop(listening);
            let _ = fs::remove_file(&path);
        }
        drop(tcp);
        for endpoint in [&unix, &bound] {
            assert_eq!(examine(endpoint, None).problem, None);
            assert_eq!(examine(endpoint, Some(&THIS())).problem, Some("not-listening"));
        }
        let foreign = "tcp:192.0.2.1:2223".parse().unwrap();
        assert_eq!(examine(&foreign, None).problem, Some("cannot-listen"));
    }

    #[test]
    fn the_ports_of_others_are_known() {
        let problem = |text: &str| clash(&text.parse().unwrap()).map(|(problem, ..)| problem);
        assert_eq!(problem("vsock:any:8000"), Some("vsock-proxy"));
        assert_eq!(problem("vsock:any:9000"), Some("heartbeat"));
        assert_eq!(problem("vsock:16:9000"), None);
        assert_eq!(problem("vsock:any:8443"), None);
        assert_eq!(problem("tcp:127.0.0.1:8000"), None);
    }
}
