//! How each relay is configured.
//!
//! Ours have their defaults, with a line for each connection at level info, to /dev/null. Peers
//! have no logs and, as ours, one thread each; more did not make them faster on two cores.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit};
use tests::proxies::binary;

use crate::chain::{Kind, Programs, Way, find};
use crate::lab::{Lab, Leg};

/// The two processes of a chain, to be started.
#[derive(Debug)]
pub(crate) struct Relay {
    /// On the host.
    pub(crate) outer: Command,
    /// In the enclave.
    pub(crate) inner: Command,
}

/// Writes the configurations of a chain's relays, and says how to start them.
pub(crate) fn prepare(
    kind: Kind,
    way: &Way,
    lab: &Lab,
    programs: &Programs,
) -> anyhow::Result<Relay> {
    match kind {
        Kind::Haproxy | Kind::HaproxySplice => haproxy(kind, way, lab),
        Kind::Nginx => nginx(way, lab),
        Kind::Direct | Kind::Raw | Kind::Routed => ours(kind, way, lab),
        Kind::Socat => Ok(socat(way)),
        Kind::VsockProxy => vsock_proxy(way, lab, programs),
    }
}

fn ours(kind: Kind, way: &Way, lab: &Lab) -> anyhow::Result<Relay> {
    let (listen, connect, cids) = (way.leg.listen(), way.leg.connect(), way.leg.cids());
    let (host, port, server) = (way.server.ip(), way.server.port(), way.server);
    let (outproxy, to, via) = match kind {
        Kind::Raw => (NOWHERE, format!("to = '{server}'\n"), format!("via = '{connect}'\n")),
        _ => (&*connect, String::new(), String::new()),
    };
    let outer = format!(
        "[[listen]]\non = '{listen}'\n{to}\
         [[allow]]\nname = 'hsm'\nhosts = ['{host}']\nports = [{port}]\n{cids}\n{LIMITS}"
    );
    let inner = format!(
        "outproxy = '{outproxy}'\n\
         [[forward]]\nname = 'hsm'\naddresses = ['{host}']\nports = [{port}]\n{via}{LIMITS}"
    );
    let command = |name, config: &str| {
        let path = write(lab, &format!("{kind}-{name}.toml"), config)?;
        let mut command = Command::new(binary(name));
        command.arg("--config").arg(path);
        anyhow::Ok(command)
    };
    Ok(Relay { outer: command("outproxy", &outer)?, inner: command("inproxy", &inner)? })
}

fn socat(way: &Way) -> Relay {
    let (listen, connect) = match &way.leg {
        Leg::Unix(path) => (
            format!("UNIX-LISTEN:{},fork,backlog=1024", path.display()),
            format!("UNIX-CONNECT:{}", path.display()),
        ),
        Leg::Vsock(port) => {
            (format!("VSOCK-LISTEN:{port},fork,backlog=1024"), format!("VSOCK-CONNECT:1:{port}"))
        }
    };
    let command = |from: &str, to: &str| {
        let mut command = Command::new("socat");
        // Half a second after one direction has ended it would cut the other off.
        command.args(["-t", "30", from, to]);
        command
    };
    Relay {
        outer: command(&listen, &format!("TCP:{}", way.server)),
        inner: command(&socat_entry(way), &connect),
    }
}

fn socat_entry(way: &Way) -> String {
    let entry = way.entry;
    format!("TCP-LISTEN:{},bind={},fork,reuseaddr,backlog=1024", entry.port(), entry.ip())
}

fn vsock_proxy(way: &Way, lab: &Lab, programs: &Programs) -> anyhow::Result<Relay> {
    let program = programs.vsock_proxy.as_ref().context("no vsock-proxy")?;
    let Leg::Vsock(leg) = way.leg else { anyhow::bail!("vsock-proxy needs AF_VSOCK") };
    let (host, port) = (way.server.ip().to_string(), way.server.port().to_string());
    let allowlist = format!("allowlist:\n- {{address: {host}, port: {port}}}\n");
    let config = write(lab, "vsock-proxy.yaml", &allowlist)?;
    let mut outer = Command::new(program);
    outer.arg("--config").arg(config).args([&leg.to_string(), &host, &port]);
    Ok(Relay { outer, inner: socat(way).inner })
}

fn haproxy(kind: Kind, way: &Way, lab: &Lab) -> anyhow::Result<Relay> {
    let leg = way.leg.path().context("HAProxy has no AF_VSOCK")?.display();
    // Its `splice-auto` does not, for a sender that has a core of its own.
    let splice = if kind == Kind::HaproxySplice {
        "option splice-request\n option splice-response"
    } else {
        ""
    };
    let command = |name, from: String, to: String| {
        let config = format!(
            "global\n nbthread 1\n maxconn 9300\n maxpipes 256\n\
             defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n \
             {splice}\n\
             listen relay\n bind {from}\n server next {to}\n"
        );
        let path = write(lab, &format!("{kind}-{name}.cfg").replace(' ', "-"), &config)?;
        let mut command = program("haproxy")?;
        command.args(["-db", "-q", "-f"]).arg(path);
        anyhow::Ok(command)
    };
    Ok(Relay {
        outer: command("out", format!("unix@{leg}"), way.server.to_string())?,
        inner: command("in", way.entry.to_string(), format!("unix@{leg}"))?,
    })
}

fn nginx(way: &Way, lab: &Lab) -> anyhow::Result<Relay> {
    let leg = way.leg.path().context("nginx has no AF_VSOCK")?.display();
    let (_, descriptors) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let command = |name, from: String, to: String| {
        let directory = lab.path(name);
        fs::create_dir_all(&directory)?;
        let config = format!(
            "load_module {NGINX_STREAM};\nuser root;\nworker_processes 1;\ndaemon off;\n\
             pid {0}/pid;\nerror_log /dev/null;\nworker_rlimit_nofile {descriptors};\n\
             events {{ worker_connections {descriptors}; }}\n\
             stream {{ server {{ listen {from} backlog=4096; proxy_pass {to}; \
             proxy_half_close on; proxy_connect_timeout 5s; proxy_timeout 1h; }} }}\n",
            directory.display()
        );
        let path = write(lab, &format!("{name}.conf"), &config)?;
        let mut command = program("nginx")?;
        command.args(["-e", "/dev/null", "-p"]).arg(directory).arg("-c").arg(path);
        anyhow::Ok(command)
    };
    Ok(Relay {
        outer: command("nginx-out", format!("unix:{leg}"), way.server.to_string())?,
        inner: command("nginx-in", way.entry.to_string(), format!("unix:{leg}"))?,
    })
}

fn program(name: &str) -> anyhow::Result<Command> {
    find(name).map(Command::new).with_context(|| format!("no `{name}` on this machine"))
}

fn write(lab: &Lab, name: &str, content: &str) -> anyhow::Result<PathBuf> {
    let path = lab.path(name);
    fs::write(&path, content).with_context(|| format!("failed to write `{}`", path.display()))?;
    Ok(path)
}

/// Debian's.
pub(crate) const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// What a configuration without routed tunnels must name nevertheless.
const NOWHERE: &str = "unix:/nonexistent";

/// Room for the idle tunnels; the rest as by default.
const LIMITS: &str = "[limits]\nmax-connections = 9500\n";
