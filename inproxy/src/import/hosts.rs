//! Lines that a script writes into /etc/hosts.

use std::net::IpAddr;
use std::ops::Range;

use tunnel::host::{DnsName, Host};
use tunnel::import::names::is_localhost;
use tunnel::import::script::{Command, Word};
use tunnel::import::source::Source;

use super::Found;

/// `echo "127.0.0.1 name" >> /etc/hosts`, or with tee(1) or cat(1); whether it is that, and the
/// lines are none that must stay.
pub(super) fn read(
    source: &mut Source,
    command: &Command,
    input: Option<&Command>,
    found: &mut Found,
) -> bool {
    let Some((program, arguments)) = command.program() else { return false };
    let is_hosts = |word: &Word| word.text == "/etc/hosts";
    let is_written = command.output.as_ref().is_some_and(is_hosts);
    let text = match program {
        "echo" | "printf" if is_written => said(arguments),
        "cat" if is_written => command.here.iter().collect(),
        "tee" if arguments.iter().any(is_hosts) => match (&command.here, input) {
            (Some(here), _) => vec![here],
            (None, Some(input)) => match &input.here {
                Some(here) => vec![here],
                None => said(input.program().map_or(&[], |(_, arguments)| arguments)),
            },
            (None, None) => return false,
        },
        _ => return false,
    };
    let mut known = String::new();
    for word in text {
        let Some(word) = word.known(&mut source.mistakes) else { return true };
        known.push_str(word);
        known.push(' ');
    }
    // What `echo -e` and `printf` make of them.
    let known = known.replace("\\n", "\n").replace("\\t", " ");
    known.lines().fold(true, |is_replaced, line| {
        let names = line.split('#').next().unwrap_or_default();
        map(source, &command.at, names, found) && is_replaced
    })
}

/// What is printed, without options.
fn said(arguments: &[Word]) -> Vec<&Word> {
    arguments
        .iter()
        .skip_while(|word| matches!(word.text.as_str(), "-e" | "-n" | "-en" | "-ne"))
        .collect()
}

/// Whether inproxy writes such a line itself.
fn map(source: &mut Source, at: &Range<usize>, line: &str, found: &mut Found) -> bool {
    let mut words = line.split_whitespace();
    let Some(address) = words.next() else { return true };
    let address: IpAddr = match address.parse::<Host>() {
        Ok(Host::Ip(ip)) => ip,
        Ok(Host::Name(name)) => {
            let message =
                format!("`{name}` is not an address; write a line as in `127.0.0.1 a.example`");
            source.mistakes.add(at.clone(), message);
            return true;
        }
        Err(error) => {
            source.mistakes.add(at.clone(), error.to_string());
            return true;
        }
    };
    for word in words {
        match word.parse::<DnsName>() {
            Ok(name) if is_localhost(&name) => {}
            Ok(name) => found.names.push((address, name)),
            Err(error) => source.mistakes.add(at.clone(), error.to_string()),
        }
    }
    if !address.is_loopback() {
        let text =
            format!("stays: inproxy writes no line for `{address}`, which is no loopback address");
        source.note(at, text);
    }
    address.is_loopback()
}
