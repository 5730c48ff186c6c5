//! What a script runs in the end, and what else inproxy does not do for it.

use tunnel::import::comment;
use tunnel::import::script::Command;
use tunnel::import::source::{Place, Source};

/// The commands that are none of inproxy's.
#[derive(Debug, Default)]
pub(super) struct Application {
    /// Where the script goes before it runs the last of them.
    directory: Option<String>,
    last: Option<(Place, Start)>,
    others: Vec<(Place, String)>,
}

/// How something is started.
#[derive(Debug)]
struct Start {
    /// Program and arguments.
    words: Vec<String>,
    /// As the script says it.
    text: String,
}

impl Application {
    /// Adds one more, in the order of the script.
    pub(super) fn add(&mut self, source: &Source, command: &Command) {
        let Some((program, arguments)) = command.program() else { return };
        if program == "cd" {
            self.directory = arguments.first().map(|word| word.text.clone());
        }
        if TRIVIAL.contains(&program) {
            return;
        }
        let text = source.text.get(command.at.clone()).unwrap_or_default();
        let is_plain = command.words.iter().all(|word| word.unknown.is_none())
            && command.output.is_none()
            && command.here.is_none()
            && !command.is_piped;
        let skipped = command.words.len() - arguments.len() - 1;
        let plain = || command.words[skipped..].iter().map(|word| word.text.clone()).collect();
        let through_a_shell = || vec!["/bin/sh".into(), "-c".into(), text.to_owned()];
        let words = if is_plain { plain() } else { through_a_shell() };
        let start = Start { words, text: text.to_owned() };
        if let Some((place, before)) = self.last.replace((source.place(&command.at), start)) {
            self.others.push((place, before.text));
        }
    }

    /// The command that the script ends with, if there is one: where, and how it is written.
    pub(super) fn origin(&self) -> Option<(&Place, String)> {
        self.last.as_ref().map(|(place, start)| (place, comment(&start.text)))
    }

    /// What the script does beside, as it is written.
    pub(super) fn others(&self) -> impl Iterator<Item = (&Place, String)> {
        self.others.iter().map(|(place, text)| (place, comment(text)))
    }

    /// Lines of a Dockerfile that start the application without the script.
    pub(super) fn dockerfile(&self) -> Vec<String> {
        let Some((_, start)) = &self.last else { return Vec::new() };
        let mut words = vec!["/usr/bin/inproxy".to_owned(), "--".into()];
        words.extend(start.words.iter().cloned());
        let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        let directory = self.directory.as_ref().map(|to| format!("WORKDIR {}", comment(to)));
        directory.into_iter().chain([format!("ENTRYPOINT [{}]", words.join(", "))]).collect()
    }
}

/// A string of JSON on one line.
fn quoted(word: &str) -> String {
    format!("\"{}\"", comment(word).replace('\\', "\\\\").replace('"', "\\\""))
}

/// What prepares or reports, and is not what the script is for.
const TRIVIAL: &[&str] = &[
    ".", ":", "[", "[[", "break", "case", "cat", "cd", "chmod", "continue", "date", "echo", "exit",
    "export", "false", "for", "function", "hostname", "mkdir", "printf", "read", "return", "set",
    "shift", "sleep", "source", "tee", "test", "trap", "true", "ulimit", "umask", "unset", "wait",
];
