//! The configuration that is made, and what there is to say about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tunnel::destination::Port;
use tunnel::endpoint::{Cid, Endpoint, VsockPort};
use tunnel::import::comment;
use tunnel::import::names::{self, Names};
use tunnel::import::script::Variables;
use tunnel::import::source::Note;

use super::Found;
use super::forwards::{Forward, HSM_PORTS, Local, is_hsm, subnet};
use crate::config::DEFAULT_OUTPROXY;

pub(super) fn render(
    files: &[String],
    notes: &[Note],
    variables: &Variables,
    found: &Found,
    forwards: &[Forward],
) -> String {
    let mut text = format!(
        "# Made of {} by `inproxy import`.\n\
         #\n\
         # It does what socat did, and needs on the parent what socat needed: each forward is raw, to the\n\
         # same vsock port as before. What is better stands at the end.\n",
        files.join(", ")
    );
    let borrowed = variables.borrowed().map(|(name, value)| {
        format!("`${name}` is `{}`, from the environment of this command.", comment(value))
    });
    let notes = notes.iter().map(|note| format!("{}: {}.", note.place, note.text));
    let others = found.application.others();
    let others = others.map(|(place, other)| format!("{place}: not done here: `{other}`"));
    for line in borrowed.chain(notes).chain(others) {
        let _ = write!(text, "#\n# {line}\n");
    }
    describe_start(found, &mut text);
    if let Some(port) = free_port(forwards) {
        let _ = write!(
            text,
            "\n# Nothing is routed yet. The usual port is that of a raw forward.\n\
             outproxy = \"vsock:3:{port}\"\n"
        );
    }
    let mut given = Names::default();
    for forward in forwards {
        render_raw(forward, &mut given, &mut text);
    }
    render_routed(forwards, &mut text);
    text
}

/// What becomes of the script.
fn describe_start(found: &Found, text: &mut String) {
    text.push_str("#\n# inproxy does what these lines did; remove them:\n");
    for (place, replaced) in &found.replaced {
        let _ = writeln!(text, "#   {place}: `{replaced}`");
    }
    let Some((place, application)) = found.application.origin() else {
        text.push_str(
            "#\n# No line runs an application. Start it by inproxy: `inproxy -- CMD ARG...`\n",
        );
        return;
    };
    let _ = write!(
        text,
        "#\n# {place} runs the application: `{application}`\n\
         # Let inproxy start what is left of the script, or the application itself. In the Dockerfile:\n"
    );
    for line in found.application.dockerfile() {
        let _ = writeln!(text, "#   {line}");
    }
}

/// Where `outproxy` may be said to listen, if its usual port is taken.
fn free_port(forwards: &[Forward]) -> Option<u32> {
    let is_taken = |endpoint: &Endpoint| forwards.iter().any(|forward| forward.via == *endpoint);
    let on =
        |port: &u32| VsockPort::new(*port).map(|port| Endpoint::Vsock { cid: Cid::new(3), port });
    is_taken(&DEFAULT_OUTPROXY)
        .then(|| (8444..).find(|port| on(port).is_some_and(|endpoint| !is_taken(&endpoint))))?
}

fn render_raw(forward: &Forward, given: &mut Names, text: &mut String) {
    let Forward { local, port, via, origin } = forward;
    let name = given.give(&stem(local, *port));
    let _ = write!(text, "\n# {origin}\n[[forward]]\nname = \"{name}\"\n");
    let _ = match local {
        Local::Address(ip) => writeln!(text, "addresses = [\"{ip}\"]"),
        Local::Host(host) => writeln!(text, "host = \"{host}\""),
    };
    let _ = write!(text, "ports = [{port}]\nvia = \"{via}\"\n");
}

fn stem(local: &Local, port: Port) -> String {
    match local {
        Local::Host(name) => names::stem(name).to_owned(),
        Local::Address(_) if is_hsm(port) => "hsm".into(),
        Local::Address(_) => format!("port-{port}"),
    }
}

/// The same with outproxy on the parent, as comments.
fn render_routed(forwards: &[Forward], text: &mut String) {
    text.push_str(ROUTED);
    let mut given = Names::default();
    for ((name, local), ports) in grouped(forwards) {
        let name = given.give(&name);
        let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
        let _ = write!(
            text,
            "#\n#[[forward]]\n#name = \"{name}\"\n#{local}\n#ports = [{}]\n",
            ports.join(", ")
        );
    }
    let unnamed = forwards.iter().filter(|forward| is_unnamed(forward));
    for forward in unnamed {
        let _ = writeln!(
            text,
            "# {}: where it leads is known on the parent only; write a forward with its `host`.",
            forward.origin
        );
    }
}

/// Whether nothing in the enclave says what it leads to.
fn is_unnamed(forward: &Forward) -> bool {
    matches!(forward.local, Local::Address(ip) if ip.is_loopback())
}

/// Names and keys of routed forwards, with their ports: of HSMs a whole subnet, and all their
/// ports.
fn grouped(forwards: &[Forward]) -> BTreeMap<(String, String), BTreeSet<u16>> {
    let mut groups: BTreeMap<(String, String), BTreeSet<u16>> = BTreeMap::new();
    let mut hsms = BTreeSet::new();
    for forward in forwards.iter().filter(|forward| !is_unnamed(forward)) {
        let port = forward.port.get();
        let local = match &forward.local {
            Local::Address(ip) if is_hsm(forward.port) => {
                hsms.insert(subnet(*ip));
                continue;
            }
            Local::Address(ip) => format!("addresses = [\"{ip}\"]"),
            Local::Host(host) => format!("host = \"{host}\""),
        };
        groups.entry((stem(&forward.local, forward.port), local)).or_default().insert(port);
    }
    if !hsms.is_empty() {
        let hsms: Vec<_> = hsms.iter().map(|subnet| format!("\"{subnet}\"")).collect();
        let local =
            format!("addresses = [{}] # the subnets of the cluster; see to them", hsms.join(", "));
        groups.insert(("hsm".into(), local), HSM_PORTS.collect());
    }
    groups
}

const ROUTED: &str = "
# Better, with outproxy on the parent, in place of all of the above: one vsock port for everything,
# and an HSM more needs no other image.
#outproxy = \"vsock:3:8443\"
";
