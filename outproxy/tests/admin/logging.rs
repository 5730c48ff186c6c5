//! What the log is like: as a reload wants it, with the keys that are documented.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Outproxy, Place, connect};
use crate::{ADMIN, LISTEN};

fn reload(place: &Place, outproxy: &Outproxy, format: &str, level: &str) {
    place.configure(&format!("{LISTEN}{ADMIN}[log]\nformat = '{format}'\nlevel = '{level}'\n"));
    outproxy.hang_up();
}

#[test]
fn a_reload_changes_level_and_format() {
    let place = Place::new();
    place.configure(&format!("{LISTEN}{ADMIN}"));
    let outproxy = place.serve();
    let refuse = |host: &str| connect(&place, &format!("{host}:443"));

    refuse("one.example");
    let line = outproxy.await_line("one.example");
    assert!(line.contains(" WARN connection refused client="), "{line}");

    // What is logged of the reload is in the new form already.
    reload(&place, &outproxy, "json", "info");
    let line: Value = serde_json::from_str(&outproxy.await_line("reloaded")).unwrap();
    assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"reloaded".into()));
    refuse("two.example");
    let line: Value = serde_json::from_str(&outproxy.await_line("two.example")).unwrap();
    assert_eq!(line["outcome"], "denied");

    reload(&place, &outproxy, "json", "error");
    place.await_reloads(2);
    refuse("three.example");
    reload(&place, &outproxy, "text", "warn");
    place.await_reloads(3);
    refuse("four.example");
    let line = outproxy.await_line(".example");
    assert!(line.contains(" WARN connection refused ") && line.contains("four"), "{line}");

    reload(&place, &outproxy, "text", "debug");
    outproxy.await_line(" INFO reloaded ");
}

/// What stands in the sources of all programs is what a collector can rely on.
#[test]
fn every_key_is_documented_and_every_documented_key_is_logged() {
    let documented = documented_keys();
    let mut logged: BTreeSet<String> = ["timestamp", "level", "message"].map(Into::into).into();
    for program in ["enclave-app", "inproxy", "outproxy", "tunnel"] {
        for (_, source) in sources(program) {
            logged.extend(keys_in(&source));
        }
    }
    let undocumented: Vec<_> = logged.difference(&documented).collect();
    assert!(undocumented.is_empty(), "write into docs/LOGGING.md: {undocumented:?}");
    let unknown: Vec<_> = documented.difference(&logged).collect();
    assert!(unknown.is_empty(), "nobody logs {unknown:?}");
}

/// The first column of the tables of keys.
pub(crate) fn documented_keys() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/LOGGING.md");
    let document = fs::read_to_string(path).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.into())).collect()
}

/// The keys of all events in a source.
fn keys_in(source: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for level in ["error", "warn", "info", "debug", "trace"] {
        for event in source.split(&format!("tracing::{level}!(")).skip(1) {
            keys.extend(arguments(event).iter().filter_map(|argument| key(argument)));
        }
    }
    keys
}

/// What stands between the commas, up to the bracket that ends it all.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut is_quoted, mut is_escaped) = (0, false, false);
    let mut arguments = vec![String::new()];
    for char in text.chars() {
        let ends = match char {
            '"' if !is_escaped => {
                is_quoted = !is_quoted;
                false
            }
            _ if is_quoted => false,
            '(' | '[' | '{' => {
                depth += 1;
                false
            }
            ')' | ']' | '}' if depth == 0 => return arguments,
            ')' | ']' | '}' => {
                depth -= 1;
                false
            }
            ',' => depth == 0,
            _ => false,
        };
        is_escaped = char == '\\' && !is_escaped;
        if ends {
            arguments.push(String::new());
        } else if let Some(argument) = arguments.last_mut() {
            argument.push(char);
        }
    }
    panic!("an event without an end: {text}");
}

/// As in `%client`, `lines` and `sent = summary.sent`; nothing of the message.
fn key(argument: &str) -> Option<String> {
    let name = argument.split('=').next()?.trim().trim_start_matches(['%', '?']);
    let is_name = |char: char| char.is_ascii_lowercase() || char == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| name.into())
}

/// The files of a package, without the tests in them.
fn sources(package: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src");
    let without_tests = |file: PathBuf| {
        let mut source = fs::read_to_string(&file).unwrap();
        source.truncate(source.find("#[cfg(test)]\nmod tests").unwrap_or(source.len()));
        (file, source)
    };
    files(&root).into_iter().map(without_tests).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    directories.iter().flat_map(|directory| files(directory)).chain(found).collect()
}
