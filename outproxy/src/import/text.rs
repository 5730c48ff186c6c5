//! The text of files: which kind they are, and the configuration that is made of them.

use std::fmt::Write as _;
use std::ops::Range;

use tunnel::endpoint::VsockPort;
use tunnel::import::comment;
use tunnel::import::script::Variables;
use tunnel::import::source::{Note, Source};

use super::rules::{Allowed, Rule, rules};
use super::{Found, Listener};

/// What kind of file it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Of a shell.
    Script,
    /// Of systemd.
    Unit,
    /// The allowlist of vsock-proxy.
    Yaml,
}

impl Kind {
    pub(super) fn of(source: &Source) -> Self {
        let text = &source.text;
        if text.lines().any(|line| line.trim_end() == "[Service]") {
            Self::Unit
        } else if text.starts_with("#!") {
            Self::Script
        } else if source.has_extension("yaml")
            || source.has_extension("yml")
            || text.lines().any(begins_allowlist)
        {
            Self::Yaml
        } else {
            Self::Script
        }
    }

    /// The parts of the text that are scripts.
    pub(super) fn scripts(self, text: &str) -> Vec<Range<usize>> {
        match self {
            Self::Script => Some(0..text.len()).into_iter().collect(),
            Self::Unit => settings(text),
            Self::Yaml => Vec::new(),
        }
    }
}

fn begins_allowlist(line: &str) -> bool {
    let line = line.trim_start_matches(['{', ' ', '"', '\'']);
    line.starts_with("allowlist") || line.starts_with("whitelist")
}

/// What a unit runs, and with which environment; see systemd.service(5).
fn settings(text: &str) -> Vec<Range<usize>> {
    let mut settings = Vec::new();
    let mut lines = text.split_inclusive('\n');
    let mut end = 0;
    while let Some(line) = lines.next() {
        let start = end;
        end += line.len();
        let mut last = line;
        while last.trim_end().ends_with('\\') {
            let Some(next) = lines.next() else { break };
            end += next.len();
            last = next;
        }
        let Some((key, value)) = text[start..end].split_once('=') else { continue };
        let key = key.trim();
        if key == "Environment" || key.starts_with("Exec") {
            let value = value.trim_start().trim_start_matches(['-', '@', ':', '+', '!']);
            settings.push(end - value.len()..end);
        }
    }
    settings
}

/// The configuration, and what there is to say about it.
pub(super) fn render(
    names: &[String],
    notes: &[Note],
    variables: &Variables,
    found: &Found,
) -> String {
    let mut text = format!("# Made of {} by `outproxy import`.\n", names.join(", "));
    let borrowed = variables.borrowed().map(|(name, value)| {
        format!("`${name}` is `{}`, from the environment of this command.", comment(value))
    });
    let notes = notes.iter().map(|note| format!("{}: {}.", note.place, note.text));
    for line in borrowed.chain(notes) {
        let _ = write!(text, "#\n# {line}\n");
    }
    render_listeners(&found.listeners, &mut text);
    let rules = rules(found);
    if rules.is_empty() {
        text.push_str("\n# The allowlist is empty: nothing can be reached.\n");
    }
    for rule in &rules {
        render_rule(rule, &mut text);
    }
    text
}

fn render_listeners(listeners: &[Listener], text: &mut String) {
    let is_taken = |port: &u32| listeners.iter().any(|other| other.on.get() == *port);
    let routed = (ROUTED..).find(|port| !is_taken(port)).unwrap_or(ROUTED);
    if listeners.is_empty() {
        let _ = write!(
            text,
            "\n# For inproxy, which names its destination. What vsock-proxy listens on is in the units\n\
             # and scripts that start it: for enclaves that are to stay as they are, import those, too.\n\
             [[listen]]\non = \"vsock:any:{routed}\"\n"
        );
        return;
    }
    for Listener { on, to, origin } in listeners {
        let _ = writeln!(text, "\n# {origin}");
        if *on < FIRST_UNPRIVILEGED {
            text.push_str(PRIVILEGED);
        }
        let _ = write!(text, "[[listen]]\non = \"vsock:any:{on}\"\nto = \"{to}\"\n");
    }
    let _ = write!(
        text,
        "\n# For inproxy, which names its destination, and needs none of those above.\n\
         #[[listen]]\n#on = \"vsock:any:{routed}\"\n"
    );
}

fn render_rule(rule: &Rule, text: &mut String) {
    let Rule { name, hosts, ports } = rule;
    let _ = write!(text, "\n[[allow]]\nname = \"{name}\"\nhosts = [");
    if hosts.len() == 1 && hosts[0].comments.is_empty() {
        let _ = write!(text, "\"{}\"", hosts[0].host);
    } else {
        text.push('\n');
        for Allowed { host, comments } in hosts {
            for comment in comments {
                let _ = writeln!(text, "    # {comment}");
            }
            let _ = writeln!(text, "    \"{host}\",");
        }
    }
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    let _ = write!(text, "]\nports = [{}]\n", ports.join(", "));
}

/// The port that inproxy connects to, unless it is told otherwise.
const ROUTED: u32 = 8443;

const FIRST_UNPRIVILEGED: VsockPort = match VsockPort::new(1024) {
    Some(port) => port,
    None => unreachable!(),
};

const PRIVILEGED: &str = "# A port below 1024 needs CAP_NET_BIND_SERVICE; see outproxy.service.\n";
