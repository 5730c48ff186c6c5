//! What the programs themselves say that they can do.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::OnceLock;

use tests::proxies::binary;

pub(crate) const PROGRAMS: [&str; 4] = ["enclave-app", "host-client", "inproxy", "outproxy"];

/// A program: its actions, of which the empty one is to have none, with their options.
pub(crate) type Program = BTreeMap<String, BTreeSet<String>>;

/// Everything that each program can do.
pub(crate) fn programs() -> &'static BTreeMap<&'static str, Program> {
    static PROGRAM: OnceLock<BTreeMap<&str, Program>> = OnceLock::new();
    PROGRAM.get_or_init(|| PROGRAMS.map(|name| (name, program(name))).into())
}

fn program(name: &str) -> Program {
    let help = help(name, &[]);
    let mut program = Program::from([(String::new(), options(&help))]);
    for action in actions(&help) {
        let options = options(&self::help(name, &[&action]));
        program.insert(action, options);
    }
    assert!(program.len() > 2, "{name}: {program:?}");
    program
}

fn help(name: &str, action: &[&str]) -> String {
    let output = Command::new(binary(name)).args(action).arg("--help").output().unwrap();
    assert!(output.status.success(), "{name} {action:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Those of the list that clap makes.
fn actions(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| !["Actions:", "Commands:"].contains(line)).skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        // What an action does may go on in the next line.
        line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_whitespace().next()
    });
    names.filter(|name| *name != "help").map(String::from).collect()
}

/// Those that a line begins with, also behind a short form.
fn options(help: &str) -> BTreeSet<String> {
    let mut options = BTreeSet::new();
    for line in help.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
        for word in
            line.split([' ', ',']).take_while(|word| word.starts_with('-') || word.is_empty())
        {
            if !word.is_empty() {
                options.insert(word.into());
            }
        }
    }
    options
}
