//! Words of a script: quotes, escapes and variables.

use std::ops::Range;

use super::Word;
use super::variables::{Variables, is_name};
use crate::config::Mistakes;

/// A text from which words are read.
pub(super) struct Words<'a> {
    pub(super) text: &'a str,
    /// How far it is read.
    pub(super) position: usize,
    pub(super) variables: &'a mut Variables,
    pub(super) mistakes: &'a mut Mistakes,
}

impl<'a> Words<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Reads a word, up to what ends it. It has a character at least, or is at its end.
    pub(super) fn next(&mut self) -> Word {
        let start = self.position;
        let mut word = Word::default();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\'' => self.single_quoted(&mut word),
                '"' => self.double_quoted(&mut word),
                '\\' => self.escaped(&mut word),
                '$' | '`' => self.expand(&mut word),
                c => self.take(c, &mut word),
            }
        }
        word.at = start..self.position;
        word
    }

    /// Another text, at this place, in which variables stand for their values and nothing else has
    /// a meaning.
    pub(super) fn expanded(&mut self, text: &str, at: Range<usize>) -> Word {
        let mut word = Word { at, ..Word::default() };
        let variables = &mut *self.variables;
        let mut inner = Words { text, position: 0, variables, mistakes: &mut *self.mistakes };
        while let Some(c) = inner.peek() {
            match c {
                '$' | '`' => inner.expand(&mut word),
                c => inner.take(c, &mut word),
            }
        }
        word
    }

    fn take(&mut self, c: char, word: &mut Word) {
        word.text.push(c);
        self.position += c.len_utf8();
    }

    fn single_quoted(&mut self, word: &mut Word) {
        let quoted = &self.rest()[1..];
        let Some(end) = quoted.find('\'') else {
            return self.miss_quote(self.position);
        };
        word.text.push_str(&quoted[..end]);
        self.position += end + 2;
    }

    fn double_quoted(&mut self, word: &mut Word) {
        let start = self.position;
        self.position += 1;
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    self.position += 1;
                    return;
                }
                '\\' if self.rest()[1..].starts_with(['"', '$', '\\', '`', '\n']) => {
                    self.escaped(word);
                }
                '$' | '`' => self.expand(word),
                c => self.take(c, word),
            }
        }
        self.miss_quote(start);
    }

    fn miss_quote(&mut self, start: usize) {
        self.mistakes.add(start..start + 1, "this quote has no end; write one");
        self.position = self.text.len();
    }

    /// A backslash: the line goes on, or the next character has no meaning.
    fn escaped(&mut self, word: &mut Word) {
        self.position += 1;
        match self.peek() {
            Some('\n') => self.position += 1,
            Some(c) => self.take(c, word),
            None => word.text.push('\\'),
        }
    }

    /// `$NAME`, `${NAME}`, or what only a shell can know.
    fn expand(&mut self, word: &mut Word) {
        // In a unit of systemd, `$$` is a dollar sign for the shell that it starts.
        let doubled = usize::from(self.rest().starts_with("$$"));
        let rest = &self.rest()[doubled..];
        let (length, name) = expansion(rest);
        self.position += doubled + length;
        match name.map(|name| (name, self.variables.get(name))) {
            Some((_, Some(value))) => return word.text.push_str(&value),
            Some((name, None)) => word.unknown = Some(Some(name.to_owned())),
            None if length > 1 => word.unknown = word.unknown.take().or(Some(None)),
            None => {}
        }
        word.text.push_str(&rest[..length]);
    }
}

/// How long the expansion is that `text` begins with, and the variable, if it is one and no more.
fn expansion(text: &str) -> (usize, Option<&str>) {
    if let Some(body) = text.strip_prefix("${") {
        let end = body.find('}').unwrap_or(body.len());
        return ((end + 3).min(text.len()), Some(&body[..end]).filter(|name| is_name(name)));
    }
    if text.starts_with("$(") {
        return (substitution(text), None);
    }
    if let Some(body) = text.strip_prefix('`') {
        return (body.find('`').map_or(text.len(), |end| end + 2), None);
    }
    let is_letter = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let end = text[1..].find(|c| !is_letter(c)).map_or(text.len(), |end| end + 1);
    match &text[1..end] {
        // Before anything else a dollar sign is one.
        "" if text[1..].starts_with(['@', '*', '#', '?', '!', '-']) => (2, None),
        name => (end, Some(name).filter(|name| is_name(name))),
    }
}

/// The length of `$(...)`, whatever is in it.
fn substitution(text: &str) -> usize {
    let mut depth = 0_usize;
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return index + 1,
            ')' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}
