//! The keys of the configurations are those of their manual pages and of the files in configs/.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use tests::proxies::binary;

use super::read;

/// The programs that have a configuration.
const PROGRAMS: [&str; 3] = ["enclave-app", "inproxy", "outproxy"];

/// A key with the table that it is in, as in `limits.max-connections`.
type Keys = BTreeSet<String>;

#[test]
fn every_key_is_in_the_manual_page_and_every_key_there_exists() {
    for program in PROGRAMS {
        let page = read(format!("docs/man/{program}.toml.5"));
        assert_eq!(keys_of_page(&page), keys_of(program), "{program}.toml.5");
    }
}

#[test]
fn every_key_is_in_the_example_and_every_key_there_exists() {
    for program in PROGRAMS {
        let example = read(format!("configs/{program}.toml"));
        let of_example = keys_of_example(&example);
        let missing: Vec<_> = keys_of(program).difference(&of_example).cloned().collect();
        let missing = missing.iter().filter(|key| !ELSEWHERE.contains(&key.as_str()));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new(), "configs/{program}.toml");
        let unknown: Vec<_> = of_example.difference(&keys_of(program)).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new(), "configs/{program}.toml");
    }
}

/// What a program takes, by its own complaints about a key that it does not.
fn keys_of(program: &str) -> Keys {
    let mut keys = Keys::new();
    let top = expected(program, "").unwrap();
    for key in top {
        let table = ["[", "[["].iter().find_map(|open| {
            let close = open.replace('[', "]");
            expected(program, &format!("{open}{key}{close}\n"))
        });
        match table {
            Some(inner) => keys.extend(inner.iter().map(|inner| format!("{key}.{inner}"))),
            None => drop(keys.insert(key)),
        }
    }
    assert!(keys.len() > 10, "{program}: {keys:?}");
    keys
}

/// Which keys are known below `head`, if it begins a table.
fn expected(program: &str, head: &str) -> Option<Vec<String>> {
    const UNKNOWN: &str = "qqqqqqqq";
    let mut child = Command::new(binary(program))
        .args(["--check", "--config", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("{head}{UNKNOWN} = 1\n");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let mistakes = String::from_utf8(output.stderr).unwrap();
    let (_, known) = mistakes.split_once(&format!("unknown key `{UNKNOWN}`, expected "))?;
    let known = known.lines().next()?.split('`').skip(1).step_by(2);
    Some(known.map(String::from).collect())
}

/// Tables are sections, and `[[allow]]` may be one more; a key has a paragraph of its own.
fn keys_of_page(page: &str) -> Keys {
    let mut keys = Keys::new();
    let mut table = "";
    for line in page.lines() {
        if let Some(title) = line.strip_prefix(".SH ") {
            table = title.trim_matches('"').trim_matches(['[', ']']);
            if !title.contains('[') {
                table = "";
            }
        } else if let Some((names, _)) =
            line.strip_prefix(".BR ").and_then(|rest| rest.split_once("\" = "))
        {
            let name = names.trim().replace('\\', "");
            keys.insert(if table.is_empty() { name } else { format!("{table}.{name}") });
        }
    }
    keys
}

/// Those that are commented out count, too, as for `make configs`.
fn keys_of_example(example: &str) -> Keys {
    let mut keys = Keys::new();
    let mut table = String::new();
    for line in example.lines() {
        let line = match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|char: char| char == '[' || char.is_lowercase()) => rest,
            Some(_) => continue,
            None => line,
        };
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).into();
        } else if let Some((key, _)) = line.split_once('=') {
            let key = key.trim();
            keys.insert(if table.is_empty() { key.into() } else { format!("{table}.{key}") });
        }
    }
    keys
}

/// What an example has no place for, and the manual page explains.
const ELSEWHERE: &[&str] = &[
    // Of builds with another feature.
    "allow.cloudhsm-cluster",
    "allow.endpoint-url",
    "allow.poll-interval",
    "allow.region",
];

#[test]
fn a_page_and_an_example_are_read_by_their_tables() {
    let page = ".SH \"[limits]\"\n.TP\n.BR max\\-connections \" = \" \\fInumber\\fP\n.SH FILES\n";
    assert_eq!(keys_of_page(page), ["limits.max-connections".into()].into());
    let example = "# Prose = none.\nname = \"a\"\n#[dns]\n#servers = []\n";
    assert_eq!(keys_of_example(example), ["name".into(), "dns.servers".into()].into());
}
