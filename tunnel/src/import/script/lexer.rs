//! Cuts a script into commands.

use std::mem;
use std::ops::Range;

use super::variables::Variables;
use super::word::Words;
use super::{Command, Word, is_assignment};
use crate::config::Mistakes;

/// Reads commands from a text.
pub(super) struct Lexer<'a> {
    words: Words<'a>,
    commands: Vec<Command>,
    /// The command that is being read.
    command: Command,
    /// Here-documents that begin on the next line.
    pending: Vec<HereDocument>,
}

struct HereDocument {
    /// Whose input it is.
    command: usize,
    /// The line behind it.
    end: String,
    is_indented: bool,
}

impl<'a> Lexer<'a> {
    /// Begins at `position`.
    pub(super) fn new(
        text: &'a str,
        position: usize,
        variables: &'a mut Variables,
        mistakes: &'a mut Mistakes,
    ) -> Self {
        Self {
            words: Words { text, position, variables, mistakes },
            commands: Vec::new(),
            command: Command::default(),
            pending: Vec::new(),
        }
    }

    /// Reads to the end.
    pub(super) fn commands(mut self) -> Vec<Command> {
        while let Some(c) = self.words.peek() {
            let rest = self.words.rest();
            match c {
                ' ' | '\t' | '\r' => self.words.position += 1,
                '\\' if rest.starts_with("\\\n") => self.words.position += 2,
                '\\' if rest.starts_with("\\\r\n") => self.words.position += 3,
                '\n' => {
                    self.words.position += 1;
                    self.finish();
                    self.read_here_documents();
                }
                '#' => self.words.position += rest.find('\n').unwrap_or(rest.len()),
                '&' if rest.starts_with("&>") => self.redirect(),
                ';' | '&' | '|' | '(' | ')' => self.operator(c),
                '<' | '>' => self.redirect(),
                '0'..='9' if matches!(rest.as_bytes().get(1), Some(b'<' | b'>')) => {
                    self.words.position += 1;
                    self.redirect();
                }
                _ => {
                    let word = self.words.next();
                    self.add(word);
                }
            }
        }
        self.finish();
        self.commands
    }

    fn operator(&mut self, c: char) {
        let is_double = self.words.rest()[1..].starts_with(c) && c != '(' && c != ')';
        self.words.position += if is_double { 2 } else { 1 };
        self.command.is_piped = c == '|' && !is_double;
        self.finish();
    }

    fn add(&mut self, word: Word) {
        let words = &mut self.command.words;
        if words.is_empty() && RESERVED.contains(&word.text.as_str()) {
            return;
        }
        if words.is_empty() {
            self.command.at.start = word.at.start;
        }
        self.command.at.end = word.at.end;
        words.push(word);
    }

    /// Files are of interest, descriptors are not.
    fn redirect(&mut self) {
        let rest = self.words.rest();
        let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
        let operator = operator.copied().unwrap_or_default();
        let blanks = &rest[operator.len()..];
        let blanks = blanks.len() - blanks.trim_start_matches([' ', '\t']).len();
        self.words.position += operator.len() + blanks;
        let word = self.words.next();
        match operator {
            "<<" | "<<-" => self.pending.push(HereDocument {
                command: self.commands.len(),
                end: word.text,
                is_indented: operator == "<<-",
            }),
            "<<<" => self.command.here = Some(word),
            ">" | ">>" | ">|" | "&>" | "&>>" => self.command.output = Some(word),
            _ => {}
        }
    }

    fn finish(&mut self) {
        let mut command = mem::take(&mut self.command);
        let assignments = command.words.iter().take_while(|word| is_assignment(word)).count();
        let first = command.words.first().map(|word| word.text.as_str());
        let is_declaration = first.is_some_and(|first| DECLARATIONS.contains(&first));
        if is_declaration || assignments == command.words.len() {
            for word in command.words.iter().filter(|word| is_assignment(word)) {
                let (name, value) = word.text.split_once('=').unwrap_or_default();
                let value = word.unknown.is_none().then(|| value.to_owned());
                self.words.variables.set(name, value);
            }
            return;
        }
        // These are for this one command.
        command.words.drain(..assignments);
        self.commands.push(command);
    }

    fn read_here_documents(&mut self) {
        for document in mem::take(&mut self.pending) {
            let start = self.words.position;
            let mut text = String::new();
            for line in self.words.rest().split_inclusive('\n') {
                self.words.position += line.len();
                let line = line.trim_end_matches(['\r', '\n']);
                let line = if document.is_indented { line.trim_start_matches('\t') } else { line };
                if line == document.end {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
            let here = self.words.expanded(&text, start..self.words.position);
            if let Some(command) = self.commands.get_mut(document.command) {
                command.here = Some(here);
            }
        }
    }
}

/// Moves a command that was read from a word to where the word is.
pub(super) fn moved(mut command: Command, at: &Range<usize>) -> Command {
    let words = command.words.iter_mut().chain(&mut command.output).chain(&mut command.here);
    words.for_each(|word| word.at = at.clone());
    command.at = at.clone();
    command
}

/// Words before which, or behind which, a command stands.
const RESERVED: &[&str] =
    &["!", "do", "done", "elif", "else", "esac", "fi", "if", "then", "until", "while", "{", "}"];

const DECLARATIONS: &[&str] = &["declare", "export", "local", "readonly", "typeset"];

/// The longer ones first.
const OPERATORS: &[&str] =
    &["&>>", "<<<", "<<-", "&>", ">>", "<<", ">&", "<&", ">|", "<>", ">", "<"];
