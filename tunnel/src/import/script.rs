//! Shell scripts, as far as their simple commands can be read without running them; see "Shell
//! Command Language" of POSIX.
//!
//! What is decided at run time (loops, conditions, substitutions) is not known here; a word that
//! depends on it says so.

mod lexer;
mod variables;
mod word;

use std::ops::Range;

use self::lexer::{Lexer, moved};
use self::variables::is_name;
pub use self::variables::{Variables, environment};
use crate::config::Mistakes;

/// A simple command of a script.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Command {
    /// Its words; at least one.
    pub words: Vec<Word>,
    /// Where it stands, from its first word to its last one.
    pub at: Range<usize>,
    /// The file that its output is written to.
    pub output: Option<Word>,
    /// The text of a here-document, its input.
    pub here: Option<Word>,
    /// Whether its output is the input of the next command.
    pub is_piped: bool,
}

/// A word of a command, without its quotes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Word {
    /// What the shell makes of it; what is not known stands in it as it is written.
    pub text: String,
    /// Where it stands.
    pub at: Range<usize>,
    /// What is not known in it, if something is not: a variable, or else what a command prints.
    pub unknown: Option<Option<String>>,
}

impl Word {
    /// Its text, if that is known; else says what to do about it.
    pub fn known(&self, mistakes: &mut Mistakes) -> Option<&str> {
        match &self.unknown {
            None => return Some(&self.text),
            Some(Some(name)) => mistakes.add(
                self.at.clone(),
                format!("`${name}` is not known here; write `{name}=<value>` before this command"),
            ),
            Some(None) => mistakes.add(
                self.at.clone(),
                "this is known only when the script runs; write the value in its place",
            ),
        }
        None
    }
}

impl Command {
    /// The program that runs in the end, behind `sudo`, `exec` and the like, without its directory;
    /// and its arguments.
    #[must_use]
    pub fn program(&self) -> Option<(&str, &[Word])> {
        let mut words = &self.words[..];
        loop {
            let (first, rest) = words.split_first()?;
            let name = first.text.rsplit('/').next().unwrap_or_default();
            if !WRAPPERS.contains(&name) {
                return Some((name, rest));
            }
            let is_option = |word: &&Word| word.text.starts_with('-') || is_assignment(word);
            words = &rest[rest.iter().take_while(is_option).count()..];
        }
    }
}

/// Reads the commands in a part of a file. What is assigned to variables is remembered for later
/// parts.
#[must_use]
pub fn parse(
    file: &str,
    part: Range<usize>,
    variables: &mut Variables,
    mistakes: &mut Mistakes,
) -> Vec<Command> {
    let commands = Lexer::new(&file[..part.end], part.start, variables, mistakes).commands();
    commands.into_iter().flat_map(|command| inner(command, variables, mistakes)).collect()
}

/// The commands of `sh -c '...'`, or the command itself if it is another one.
fn inner(command: Command, variables: &mut Variables, mistakes: &mut Mistakes) -> Vec<Command> {
    let Some(script) = script_of(&command) else {
        return vec![command];
    };
    let mut inner = Mistakes::default();
    let commands = Lexer::new(&script.text, 0, variables, &mut inner).commands();
    if !inner.is_empty() {
        mistakes.add(script.at.clone(), "a quote in this script has no end; write one");
    }
    // Where a word of it is in the file is lost with the quotes.
    commands.into_iter().map(|command| moved(command, &script.at)).collect()
}

fn script_of(command: &Command) -> Option<&Word> {
    let (program, arguments) = command.program()?;
    let options = arguments.iter().take_while(|word| word.text.starts_with('-')).count();
    let has_script = |word: &Word| !word.text.starts_with("--") && word.text.contains('c');
    let is_shell = matches!(program, "ash" | "bash" | "dash" | "sh");
    arguments.get(options).filter(|_| is_shell && arguments[..options].iter().any(has_script))
}

/// Whether it is `NAME=value`.
fn is_assignment(word: &Word) -> bool {
    word.text.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// Programs that run another one, which follows their options.
const WRAPPERS: &[&str] =
    &["command", "env", "exec", "nice", "nohup", "setsid", "stdbuf", "sudo", "time"];

#[cfg(test)]
mod tests;
