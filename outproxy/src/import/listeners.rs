//! What scripts and units start: vsock-proxy, or socat in its place.

use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use tunnel::config::Mistakes;
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::VsockPort;
use tunnel::host::Host;
use tunnel::import::comment;
use tunnel::import::script::{self, Command, Variables, Word};
use tunnel::import::socat::{self, Kind};
use tunnel::import::source::Source;

use super::{Found, Listener};

/// Reads a part of a file that is a script.
pub(super) fn read(
    source: &mut Source,
    part: Range<usize>,
    variables: &mut Variables,
    found: &mut Found,
) {
    let commands = script::parse(&source.text, part, variables, &mut source.mistakes);
    for command in commands {
        let started = match command.program() {
            Some(("vsock-proxy", arguments)) => vsock_proxy(source, &command, arguments),
            Some(("socat", arguments)) => socat(source, &command, arguments),
            _ => None,
        };
        if let Some((on, to)) = started {
            let origin = source.place(&command.at);
            refuse_taken(source, &command, on, found);
            if !is_allowed(&to, found) {
                source.mistakes.add(
                    command.at.clone(),
                    format!(
                        "`{to}` is not in the allowlist, so vsock-proxy refuses it; add it there, \
                         or remove this line"
                    ),
                );
            }
            found.listeners.push(Listener { on, to, origin });
        }
    }
}

/// Without an allowlist, what is started shows what is allowed.
fn is_allowed(to: &Destination, found: &Found) -> bool {
    found.entries.as_ref().is_none_or(|entries| {
        entries.iter().any(|entry| entry.host == to.host && entry.port == to.port)
    })
}

fn refuse_taken(source: &mut Source, command: &Command, on: VsockPort, found: &Found) {
    if let Some(other) = found.listeners.iter().find(|other| other.on == on) {
        let message = format!("port {on} is taken by {}; write another one", other.origin);
        source.mistakes.add(command.at.clone(), message);
    }
}

/// `vsock-proxy [-4|-6] [-w|--num_workers N] [--config FILE] LOCAL_PORT REMOTE_ADDR REMOTE_PORT`
fn vsock_proxy(
    source: &mut Source,
    command: &Command,
    arguments: &[Word],
) -> Option<(VsockPort, Destination)> {
    let mut positions = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.text.split('=').next().unwrap_or_default() {
            "-h" | "--help" => return None,
            "-4" | "-6" | "--ipv4" | "--ipv6" => {
                let text =
                    format!("`{}`: outproxy tries the addresses of both families", word.text);
                source.note(&word.at, text);
            }
            "--config" if word.text.contains('=') => {}
            "--config" => drop(words.next()),
            "-w" | "--num_workers" if !word.text.contains('=') => {
                let number = words.next().map(|number| number.text.as_str());
                note_workers(source, word, number.unwrap_or_default());
            }
            option if option.starts_with("-w") || option == "--num_workers" => {
                note_workers(source, word, "");
            }
            _ => positions.push(word),
        }
    }
    let [port, host, remote] = positions[..] else {
        source.mistakes.add(
            command.at.clone(),
            "a vsock-proxy has three arguments; write `vsock-proxy 8000 10.0.10.103 2223`",
        );
        return None;
    };
    let mistakes = &mut source.mistakes;
    let on = parse::<VsockPort>(port, mistakes);
    let (host, port) = (parse::<Host>(host, mistakes), parse::<Port>(remote, mistakes));
    Some((on?, Destination { host: host?, port: port? }))
}

fn note_workers(source: &mut Source, word: &Word, number: &str) {
    let option = comment(&format!("{} {number}", word.text));
    let text = format!(
        "`{option}`: what comes beyond it waits there, and is served at once here; write \
         `max-connections` into the rule to have it refused"
    );
    source.note(&word.at, text);
}

fn parse<T>(word: &Word, mistakes: &mut Mistakes) -> Option<T>
where
    T: FromStr<Err: Display>,
{
    match word.known(mistakes)?.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            mistakes.add(word.at.clone(), error.to_string());
            None
        }
    }
}

/// `socat VSOCK-LISTEN:port,fork TCP:host:port`
fn socat(
    source: &mut Source,
    command: &Command,
    arguments: &[Word],
) -> Option<(VsockPort, Destination)> {
    let socat = socat::parse(arguments, &mut source.mistakes)?;
    let (Kind::VsockListen(on), Kind::Tcp(host, port)) = (socat.listen.kind, socat.connect.kind)
    else {
        source.note(&command.at, "this socat leads into an enclave; outproxy leads out of it only");
        return None;
    };
    if !socat.rest.is_empty() {
        let rest = comment(&socat.rest.join(" "));
        source.note(&command.at, format!("`{rest}` has no counterpart"));
    }
    Some((on, Destination { host, port }))
}
