//! Loads a TOML file into a validated configuration, and shows every mistake with its line.

mod excerpt;
mod words;

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use toml::Spanned;

pub use self::excerpt::Excerpt;

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Reads the file at `path`, which is written as a `File`, into a `Config`.
///
/// `Config::try_from` holds the rules between keys and reports all that are broken. What serde
/// itself refuses (syntax, types, unknown keys) ends the parsing at the first mistake.
///
/// # Errors
///
/// If the file cannot be read, is too large, is not UTF-8, or has mistakes.
pub fn load<File, Config>(path: &Path) -> Result<Config, ConfigError>
where
    File: DeserializeOwned,
    Config: TryFrom<File, Error = Mistakes>,
{
    parse(&read(path)?).map_err(|report| ConfigError::Mistakes { path: path.into(), report })
}

/// Parses the text of a file, which is written as a `File`, into a `Config`.
///
/// # Errors
///
/// If the text has mistakes.
pub fn parse<File, Config>(text: &str) -> Result<Config, Report>
where
    File: DeserializeOwned,
    Config: TryFrom<File, Error = Mistakes>,
{
    // A byte order mark belongs to no line; left in, it would shift the columns of the first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    toml::from_str::<File>(text)
        .map_err(|error| Mistakes::from(&error))
        .and_then(Config::try_from)
        .map_err(|mistakes| mistakes.report(text))
}

/// What is wrong with a file, as its rules find it. Turned into a [`Report`] by [`parse`].
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Adds a mistake that is `at` these bytes of the file. The `message` says what to write.
    pub fn add(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.0.push(Mistake { at: Some(at), other: None, message: message.into() });
    }

    /// Adds a mistake between two places, of which `at` is the one to change.
    pub fn add_clash(&mut self, at: Range<usize>, other: Range<usize>, message: impl Into<String>) {
        self.0.push(Mistake { at: Some(at), other: Some(other), message: message.into() });
    }

    /// Adds something that is missing, so that there is no place to show.
    pub fn add_missing(&mut self, message: impl Into<String>) {
        self.0.push(Mistake { at: None, other: None, message: message.into() });
    }

    /// Adds what was found elsewhere in the same file.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of it, as it is shown to the operator, with the lines of this `text`.
    #[must_use]
    pub fn report(self, text: &str) -> Report {
        Report::new(text, self)
    }

    /// The `value`, if nothing is wrong.
    ///
    /// # Errors
    ///
    /// The mistakes, if there are any.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<&toml::de::Error> for Mistakes {
    fn from(error: &toml::de::Error) -> Self {
        Self(vec![Mistake {
            at: error.span(),
            other: None,
            message: words::of_operators(error.message()),
        }])
    }
}

#[derive(Debug)]
struct Mistake {
    at: Option<Range<usize>>,
    other: Option<Range<usize>>,
    message: String,
}

/// An array whose elements keep their places, and their mistakes.
///
/// In a plain `Vec` a bad element would be reported at the first line of the array, which may be
/// many lines above, and without the other bad elements.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>", transparent)]
pub struct List<T>(Spanned<Vec<Spanned<Attempt<T>>>>);

impl<T> List<T> {
    /// Where the array is.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.0.span()
    }

    /// The good elements, each with its place; the bad ones and an empty array become mistakes.
    ///
    /// An empty array is refused because it could be read as "none" and as "any".
    pub fn into_elements(self, mistakes: &mut Mistakes) -> Vec<Spanned<T>> {
        let span = self.span();
        let elements = self.0.into_inner();
        if elements.is_empty() {
            mistakes.add(span, "the array is empty; write at least one element");
        }
        elements
            .into_iter()
            .filter_map(|element| {
                let span = element.span();
                match element.into_inner() {
                    Attempt(Ok(value)) => Some(Spanned::new(span, value)),
                    Attempt(Err(message)) => {
                        mistakes.add(span, message);
                        None
                    }
                }
            })
            .collect()
    }

    /// As [`into_elements`](Self::into_elements), without the places.
    pub fn into_values(self, mistakes: &mut Mistakes) -> Vec<T> {
        self.into_elements(mistakes).into_iter().map(Spanned::into_inner).collect()
    }
}

/// A value, or what is wrong with it. It never fails to deserialize.
#[derive(Debug)]
struct Attempt<T>(Result<T, String>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Attempt<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(
            T::deserialize(deserializer)
                .map_err(|error| words::of_operators(error.to_string().trim_end())),
        ))
    }
}

/// The mistakes of one file, in the order of their lines, as they are shown to the operator.
#[derive(Debug)]
pub struct Report {
    excerpts: Vec<Excerpt>,
    /// How many mistakes are counted, but not shown.
    more: usize,
}

impl Report {
    /// How many mistakes are shown. An operator mends those and looks again.
    pub const SHOWN: usize = 20;

    fn new(text: &str, mistakes: Mistakes) -> Self {
        let mut mistakes = mistakes.0;
        mistakes.sort_by_key(|mistake| mistake.at.as_ref().map(|at| at.start));
        Self {
            more: mistakes.len().saturating_sub(Self::SHOWN),
            excerpts: mistakes
                .into_iter()
                .take(Self::SHOWN)
                .map(|mistake| Excerpt::new(text, mistake))
                .collect(),
        }
    }

    /// The mistakes one by one, for a log that wants them on a line each.
    pub fn iter(&self) -> impl Iterator<Item = &Excerpt> {
        self.excerpts.iter()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.excerpts.len() + self.more {
            1 => f.write_str("1 mistake")?,
            count => write!(f, "{count} mistakes")?,
        }
        for (index, excerpt) in self.excerpts.iter().enumerate() {
            f.write_str(if index == 0 { "\n" } else { "\n\n" })?;
            excerpt.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\n\nand {} more", self.more)?;
        }
        Ok(())
    }
}

/// Why a file gives no configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text has mistakes.
    #[error("failed to parse `{}`: {report}", path.display())]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and where.
        report: Report,
    },
    /// The file is missing, is a directory, or may not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than [`MAX_FILE_BYTES`].
    #[error(
        "failed to read `{}`: it is larger than {MAX_FILE_BYTES} bytes, so it is hardly a configuration",
        path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
    },
    /// The file is not text.
    #[error("failed to read `{}`: line {line} is not UTF-8; save the file as UTF-8", path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// The first line that is not UTF-8, counted from 1.
        line: usize,
    },
}

/// Reads a file of text, of at most [`MAX_FILE_BYTES`].
///
/// # Errors
///
/// If the file cannot be read, is too large, or is not UTF-8.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| {
            // One byte more than allowed tells a file that is too large from one that just fits.
            file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)
        })
        .map_err(|source| ConfigError::Read { path: path.into(), source })?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ConfigError::Size { path: path.into() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ConfigError::Utf8 {
            path: path.into(),
            line: 1 + valid.iter().filter(|byte| **byte == b'\n').count(),
        }
    })
}

#[cfg(test)]
mod tests;
