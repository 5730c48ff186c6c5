//! A file that is imported: its text, and what there is to say about it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::config::{self, ConfigError, Mistakes};

/// A file while it is read.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    /// What is in it.
    pub text: String,
    /// What is wrong in it.
    pub mistakes: Mistakes,
    notes: Vec<Note>,
    /// Where lines end.
    ends: Vec<usize>,
}

/// A line of a file.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The file, without its directory.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file, self.line)
    }
}

/// Something that whoever imports the file is to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// What it is about.
    pub place: Place,
    /// What is to be known.
    pub text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is too large, or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self::new(path, &config::read(path)?))
    }

    /// The file at `path`, in which `text` is.
    #[must_use]
    pub fn new(path: &Path, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let ends = text.match_indices('\n').map(|(end, _)| end).collect();
        Self { path: path.into(), text, mistakes: Mistakes::default(), notes: Vec::new(), ends }
    }

    /// The name of the file, without its directory.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        super::comment(&name.to_string_lossy())
    }

    /// Whether the name ends in a dot and `extension`.
    #[must_use]
    pub fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|own| own == extension)
    }

    /// The line of these bytes.
    #[must_use]
    pub fn place(&self, at: &Range<usize>) -> Place {
        let line = 1 + self.ends.partition_point(|end| *end < at.start);
        Place { file: self.name(), line }
    }

    /// Remembers something about these bytes.
    pub fn note(&mut self, at: &Range<usize>, text: impl Into<String>) {
        self.notes.push(Note { place: self.place(at), text: text.into() });
    }

    /// What there is to know, in the order of the lines.
    ///
    /// # Errors
    ///
    /// If something is wrong in the file.
    pub fn finish(mut self) -> Result<Vec<Note>, ConfigError> {
        if !self.mistakes.is_empty() {
            let report = self.mistakes.report(&self.text);
            return Err(ConfigError::Mistakes { path: self.path, report });
        }
        self.notes.sort_by_key(|note| note.place.line);
        Ok(self.notes)
    }
}
