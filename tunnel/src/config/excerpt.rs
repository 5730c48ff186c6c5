//! One mistake, shown with the line that it is on.

use std::fmt;
use std::ops::Range;

use super::Mistake;

/// A mistake and the line that it is on, short and printable whatever the file holds.
#[derive(Debug)]
pub struct Excerpt {
    place: Option<Place>,
    message: String,
}

impl Excerpt {
    pub(super) fn new(text: &str, mistake: Mistake) -> Self {
        let mut message = elide(&mistake.message);
        if let Some(other) = mistake.other {
            let line = line_number(text, other.start);
            message.push_str(&format!("; the other is on line {line}"));
        }
        Self { place: mistake.at.map(|at| Place::new(text, &at)), message }
    }

    /// The line of the mistake, counted from 1, unless something is missing altogether.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.line)
    }

    /// What is wrong, and what to write instead.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            let line = place.line.to_string();
            let gutter = " ".repeat(line.len());
            writeln!(f, "line {line}, column {}", place.column)?;
            writeln!(f, "{gutter} |")?;
            writeln!(f, "{line} | {}", place.shown)?;
            writeln!(f, "{gutter} | {}", place.carets)?;
        }
        f.write_str(&self.message)
    }
}

#[derive(Debug)]
struct Place {
    line: usize,
    /// In characters, counted from 1.
    column: usize,
    shown: String,
    carets: String,
}

impl Place {
    fn new(text: &str, at: &Range<usize>) -> Self {
        let begin = text[..at.start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[begin..].lines().next().unwrap_or_default();
        let before = text[begin..at.start].chars().count();
        // A mistake "at the end of the line" may lie between its CR and its LF.
        let before = before.min(line.chars().count());
        let marked = before..before + text[at.clone()].chars().count().max(1);

        // A long line is cut on both sides of the mistake.
        let skipped = match before.checked_sub(WIDTH / 2) {
            Some(skipped) if before >= WIDTH => skipped,
            _ => 0,
        };
        let mut shown = String::new();
        let mut carets = String::new();
        if skipped > 0 {
            shown.push('…');
            carets.push(' ');
        }
        let mut rest = line.chars().enumerate().skip(skipped);
        for (index, char) in rest.by_ref().take(WIDTH) {
            for printable in printable(char) {
                shown.push(printable);
                match index {
                    _ if marked.contains(&index) => carets.push('^'),
                    _ if index < before => carets.push(' '),
                    _ => {}
                }
            }
        }
        if rest.next().is_some() {
            shown.push('…');
        }
        // The end of a line or of the file has no character to stand under.
        if !carets.ends_with('^') {
            carets.push('^');
        }
        Self { line: line_number(text, at.start), column: before + 1, shown, carets }
    }
}

fn line_number(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

/// The message without what an editor or a terminal would not show, and without the middle of a
/// value that runs on for pages.
fn elide(message: &str) -> String {
    let chars: Vec<char> = message.chars().flat_map(printable).collect();
    if chars.len() <= MESSAGE {
        return chars.into_iter().collect();
    }
    let (head, tail) = (&chars[..MESSAGE / 2], &chars[chars.len() - MESSAGE / 2..]);
    head.iter().chain(&['…']).chain(tail).collect()
}

/// A terminal that shows the report must not obey what is in the file.
fn printable(char: char) -> impl Iterator<Item = char> {
    let plain = match char {
        '\t' => Some(' '),
        '"' | '\'' | '\\' => Some(char),
        _ => None,
    };
    let escaped = plain.is_none().then(|| char.escape_debug());
    plain.into_iter().chain(escaped.into_iter().flatten())
}

/// How many characters of a line are shown.
const WIDTH: usize = 80;

/// How many characters of a message are shown.
const MESSAGE: usize = 400;
