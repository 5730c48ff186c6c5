//! What the importers of both ends share: they read files that were written for other programs, and
//! print a configuration.

pub mod names;
pub mod script;
pub mod socat;
pub mod source;

use std::fmt;

use thiserror::Error;

use crate::chain::Chain;
use crate::config::ConfigError;

/// Why files cannot be imported: all that is wrong in all of them.
#[derive(Debug, Error)]
pub struct ImportError(pub Vec<ConfigError>);

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "\n\n" })?;
            Chain(error).fmt(f)?;
        }
        Ok(())
    }
}

/// A text as part of a comment: on one line, without what a terminal would obey, and not too long.
#[must_use]
pub fn comment(text: &str) -> String {
    let mut words = String::new();
    for (index, word) in text.split_whitespace().enumerate() {
        words.push_str(if index == 0 { "" } else { " " });
        words.push_str(word);
    }
    let plain = |c: char| match c {
        '"' | '\'' | '\\' => String::from(c),
        c => c.escape_debug().to_string(),
    };
    let mut shown: String = words.chars().take(MOST).map(plain).collect();
    if words.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// How many characters of somebody's text are repeated in a comment.
const MOST: usize = 160;
