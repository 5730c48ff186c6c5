//! Names that operators give to rules and forwards.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

use crate::host::Clamped;

/// A name for logs and metrics: `[a-z0-9]`, then up to 62 of `[a-z0-9._-]`.
///
/// It becomes the value of a metric label, hence the small alphabet. Cloning it is cheap.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub struct Label(Arc<str>);

impl Label {
    /// The longest label, in bytes.
    pub const MAX_BYTES: usize = 63;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let is_alphanumeric = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
        let begins_well = text.bytes().next().is_some_and(is_alphanumeric);
        let is_allowed = |byte| is_alphanumeric(byte) || b"-_.".contains(&byte);
        if begins_well && text.len() <= Self::MAX_BYTES && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(LabelError(text.into()))
        }
    }
}

impl TryFrom<Cow<'_, str>> for Label {
    type Error = LabelError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, LabelError> {
        text.parse()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no label.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "`{0}` is not a name; write up to 63 of `a`-`z`, `0`-`9`, `-`, `_` and `.`, a letter or digit first"
)]
pub struct LabelError(Clamped);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_short_and_plain() {
        for text in ["hsm", "0", "a-b_c.d", &"a".repeat(63)] {
            assert_eq!(text.parse::<Label>().unwrap().as_str(), text);
        }
        for text in ["", "-a", ".a", "HSM", "a b", "ä", "a\"", "a\n", &"a".repeat(64)] {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
    }
}
