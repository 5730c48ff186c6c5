//! Makes an outproxy.toml of what AWS's vsock-proxy and socat were told.

mod listeners;
mod rules;
mod text;
mod yaml;

use std::path::PathBuf;

use tunnel::config::ConfigError;
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::VsockPort;
use tunnel::host::Host;
use tunnel::import::ImportError;
use tunnel::import::script::{Variables, environment};
use tunnel::import::source::{Place, Source};

use self::text::Kind;

/// The configuration that does what these files made vsock-proxy and socat do: its allowlist
/// (vsock-proxy.yaml), and scripts and units of systemd that start one or the other.
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
    sources: Vec<Source>,
    mut errors: Vec<ConfigError>,
    mut variables: Variables,
) -> Result<String, ImportError> {
    let with_kind = |source| (Kind::of(&source), source);
    let mut sources: Vec<_> = sources.into_iter().map(with_kind).collect();
    let mut found = Found::default();
    // What a listener may lead to is known once all allowlists are read.
    for (_, source) in sources.iter_mut().filter(|(kind, _)| *kind == Kind::Yaml) {
        found.entries.get_or_insert_default().extend(yaml::read(source));
    }
    for (kind, source) in sources.iter_mut().filter(|(kind, _)| *kind != Kind::Yaml) {
        for part in kind.scripts(&source.text) {
            listeners::read(source, part, &mut variables, &mut found);
        }
    }
    if let Some((_, source)) = sources.first_mut()
        && found.entries.is_none()
        && found.listeners.is_empty()
        && errors.is_empty()
    {
        source.mistakes.add_missing(
            "there is nothing to import: no `allowlist:`, no `vsock-proxy`, and no \
             `socat VSOCK-LISTEN`",
        );
    }
    let names: Vec<_> = sources.iter().map(|(_, source)| source.name()).collect();
    let mut notes = Vec::new();
    for (_, source) in sources {
        match source.finish() {
            Ok(more) => notes.extend(more),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(text::render(&names, &notes, &variables, &found))
    } else {
        Err(ImportError(errors))
    }
}

/// What the files say.
#[derive(Debug, Default)]
struct Found {
    /// What is allowed; nothing if there is no allowlist at all.
    entries: Option<Vec<Entry>>,
    listeners: Vec<Listener>,
}

/// A destination that is allowed.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    host: Host,
    port: Port,
    /// What the file says about it.
    comments: Vec<String>,
}

/// A vsock-proxy, or a socat in its place.
#[derive(Debug)]
struct Listener {
    on: VsockPort,
    to: Destination,
    /// Where it is started.
    origin: Place,
}

#[cfg(test)]
mod tests;
