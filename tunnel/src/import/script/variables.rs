//! What is known of a script's variables.

use std::collections::{BTreeMap, HashMap};

use crate::config::MAX_FILE_BYTES;

/// Variables, as far as a script assigns to them what can be known; and those of the environment
/// where it does not.
#[derive(Debug)]
pub struct Variables {
    assigned: HashMap<String, Option<String>>,
    environment: fn(&str) -> Option<String>,
    borrowed: BTreeMap<String, String>,
    /// How many bytes of values may still be used: a value may be made of others, which doubles it
    /// with each line.
    left: usize,
}

impl Variables {
    /// None are assigned yet; `environment` knows those that a script does not assign, or whose
    /// value it computes.
    #[must_use]
    pub fn new(environment: fn(&str) -> Option<String>) -> Self {
        let (assigned, borrowed) = (HashMap::new(), BTreeMap::new());
        Self { assigned, environment, borrowed, left: MAX_FILE_BYTES }
    }

    /// What came from the environment: names and values.
    pub fn borrowed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.borrowed.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value, if it is known, and not more than a script that somebody wrote would use.
    pub(super) fn get(&mut self, name: &str) -> Option<String> {
        if let Some(Some(value)) = self.assigned.get(name) {
            self.left = self.left.checked_sub(value.len())?;
            return Some(value.clone());
        }
        let value = (self.environment)(name)?;
        self.left = self.left.checked_sub(value.len())?;
        self.borrowed.insert(name.to_owned(), value.clone());
        Some(value)
    }

    /// `value` is nothing where it cannot be known.
    pub(super) fn set(&mut self, name: &str, value: Option<String>) {
        self.assigned.insert(name.to_owned(), value);
    }
}

/// Variables of this process's environment.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(super) fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c == '_' || c.is_ascii_alphabetic();
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}
