//! Makes an inproxy.toml of a script that prepares an enclave with socat, ifconfig and lines in
//! /etc/hosts.

mod application;
mod forwards;
mod hosts;
mod network;
mod text;

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;

use tunnel::cidr::Cidr;
use tunnel::config::ConfigError;
use tunnel::destination::Port;
use tunnel::endpoint::Endpoint;
use tunnel::host::{DnsName, Host};
use tunnel::import::script::{self, Command, Variables, environment};
use tunnel::import::source::{Place, Source};
use tunnel::import::{ImportError, comment};

use self::application::Application;

/// The configuration that does what these scripts did; with comments that say what they were
/// understood to do, and what is better.
///
/// # Errors
///
/// All that is wrong in all the files.
pub fn import(paths: &[PathBuf]) -> Result<String, ImportError> {
    let (mut sources, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        match Source::read(path) {
            Ok(source) => sources.push(source),
            Err(error) => errors.push(error),
        }
    }
    convert(sources, errors, Variables::new(environment))
}

/// As [`import`], of files that were read already; `errors` is why others were not.
///
/// # Errors
///
/// These, and all that is wrong in the files.
pub fn convert(
    mut sources: Vec<Source>,
    mut errors: Vec<ConfigError>,
    mut variables: Variables,
) -> Result<String, ImportError> {
    let mut found = Found::default();
    for (file, source) in sources.iter_mut().enumerate() {
        let all = 0..source.text.len();
        let commands = script::parse(&source.text, all, &mut variables, &mut source.mistakes);
        for (index, command) in commands.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|before| commands.get(before));
            let input = before.filter(|before| before.is_piped);
            read(file, source, command, input, &mut found);
        }
    }
    let forwards = forwards::forwards(&found, &mut sources);
    if let Some(source) = sources.first_mut()
        && forwards.is_empty()
        && errors.is_empty()
    {
        source.mistakes.add_missing(
            "there is nothing to import; a line that leads somewhere is, for example, \
             `socat TCP-LISTEN:2223,fork VSOCK-CONNECT:3:2223`",
        );
    }
    let names: Vec<_> = sources.iter().map(Source::name).collect();
    let mut notes = Vec::new();
    for source in sources {
        match source.finish() {
            Ok(more) => notes.extend(more),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(text::render(&names, &notes, &variables, &found, &forwards))
    } else {
        Err(ImportError(errors))
    }
}

/// What the scripts do.
#[derive(Debug, Default)]
struct Found {
    /// What is made local.
    locals: Vec<Cidr>,
    /// What is written into /etc/hosts.
    names: Vec<(IpAddr, DnsName)>,
    listeners: Vec<Listener>,
    /// What inproxy does now, as the scripts say it.
    replaced: Vec<(Place, String)>,
    application: Application,
}

/// A socat that leads out of the enclave.
#[derive(Debug)]
struct Listener {
    bind: Option<Host>,
    port: Port,
    via: Endpoint,
    /// The index of the file.
    file: usize,
    /// Where it stands there.
    at: Range<usize>,
    origin: Place,
}

/// Reads one command; `input` is the one whose output it reads.
fn read(
    file: usize,
    source: &mut Source,
    command: &Command,
    input: Option<&Command>,
    found: &mut Found,
) {
    let Some((program, arguments)) = command.program() else { return };
    let is_replaced = match program {
        "ifconfig" => network::ifconfig(source, arguments, found),
        "ip" => network::ip(source, arguments, found),
        "socat" => forwards::socat(file, source, command, found),
        _ => hosts::read(source, command, input, found),
    };
    if is_replaced {
        let text = source.text.get(command.at.clone()).unwrap_or_default();
        found.replaced.push((source.place(&command.at), comment(text)));
    } else {
        found.application.add(source, command);
    }
}

#[cfg(test)]
mod tests;
