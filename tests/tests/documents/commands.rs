//! Commands that the documents show can be given, and all there are stand in the README.

use super::help::{PROGRAMS, programs};
use super::markdown::Markdown;
use super::{documents, read};

#[test]
fn every_command_that_is_shown_exists() {
    let mut checked = 0;
    for document in documents() {
        let Markdown { code, spans, .. } = Markdown::parse(&read(&document));
        for line in code.iter().chain(&spans) {
            for command in commands(line) {
                let wrong = mistake(&command);
                assert!(wrong.is_none(), "{}: {line}: {}", document.display(), wrong.unwrap());
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "only {checked} commands");
}

/// The parts of a line of shell that call one of our programs, as words.
fn commands(line: &str) -> Vec<Vec<&str>> {
    let mut commands = Vec::new();
    let mut command: Vec<&str> = Vec::new();
    for word in line.split_whitespace() {
        let ends = ["[--", "|", "||", "&&", "&", ";", ">", "<", "2>&1", "#", "--"].contains(&word)
            || word.starts_with(['>', '<', '#', '|']);
        if ends {
            commands.extend(take_ours(&mut command));
        } else {
            command.push(word.trim_end_matches(';'));
        }
    }
    commands.extend(take_ours(&mut command));
    commands
}

/// The command, if it is one of ours; what stands before its name are `$` and `sudo`.
fn take_ours<'a>(command: &mut Vec<&'a str>) -> Option<Vec<&'a str>> {
    let words = std::mem::take(command);
    let begin = words.iter().position(|word| !["$", "sudo"].contains(word))?;
    let name = words[begin].rsplit('/').next()?;
    PROGRAMS.contains(&name).then(|| [&[name], &words[begin + 1..]].concat())
}

/// What is wrong with a command. Arguments of options are whatever they are.
fn mistake(command: &[&str]) -> Option<String> {
    let program = &programs()[command[0]];
    let mut known = &program[""];
    let mut has_action = false;
    for (position, word) in command.iter().enumerate().skip(1) {
        let word = word.trim_matches(['[', ']']);
        if word.starts_with('-') && word.len() > 1 {
            let option = word.split('=').next().unwrap();
            let is_known = known.contains(option) || program[""].contains(option);
            if !is_known {
                return Some(format!("no option `{option}`"));
            }
        } else if !has_action && (position == 1 || program.contains_key(word)) {
            let is_placeholder = word.chars().all(|char| char.is_ascii_uppercase() || char == '…');
            match program.get(word) {
                Some(options) => known = options,
                None if is_placeholder => {}
                None => return Some(format!("no action `{word}`")),
            }
            has_action = true;
        }
    }
    None
}

#[test]
fn every_command_stands_in_the_readme() {
    let readme = read("README.md");
    for program in ["enclave-app", "inproxy", "outproxy"] {
        for action in programs()[program].keys().filter(|action| !OF_ALL.contains(&action.as_str()))
        {
            let row = format!("| `{program} {action}");
            assert!(readme.contains(&row), "{program} {action}");
        }
    }
    for action in OF_ALL {
        assert!(readme.contains(action), "{action}");
    }
}

/// What every program can do.
const OF_ALL: [&str; 3] = ["", "completions", "man"];

#[test]
fn every_action_of_host_client_stands_in_the_walk_through() {
    let text = read("docs/WALKTHROUGH.md");
    for action in programs()["host-client"].keys() {
        assert!(
            text.contains(&format!("`{action}`")) || OF_ALL.contains(&action.as_str()),
            "{action}"
        );
    }
}

#[test]
fn every_target_of_make_that_is_named_exists() {
    let makefile = read("Makefile");
    let mut checked = 0;
    for document in documents() {
        let Markdown { code, spans, .. } = Markdown::parse(&read(&document));
        for line in code.iter().chain(&spans) {
            let Some(arguments) = line.trim_start_matches("$ ").strip_prefix("make ") else {
                continue;
            };
            let targets = arguments.split_whitespace().take_while(|word| {
                word.chars().all(|char| char.is_ascii_lowercase() || char == '-')
            });
            for target in targets {
                let is_there = makefile.contains(&format!("\n{target}:"));
                assert!(is_there, "{}: make {target}", document.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "only {checked} targets");
}

#[test]
fn a_command_that_is_wrong_is_found() {
    assert_eq!(mistake(&["outproxy", "logs", "--cid", "16", "--follow"]), None);
    assert_eq!(mistake(&["outproxy", "log"]), Some("no action `log`".into()));
    assert_eq!(mistake(&["outproxy", "logs", "--tail"]), Some("no option `--tail`".into()));
    assert_eq!(
        commands("$ sudo outproxy doctor --json | jq ."),
        [["outproxy", "doctor", "--json"]]
    );
}
