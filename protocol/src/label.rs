//! The name of a key.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A label: 1 to 127 bytes of UTF-8 without control characters.
///
/// CloudHSM's labels have at most 127 bytes. A control character could pretend to be another
/// label on an operator's terminal.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String")]
pub struct KeyLabel(String);

impl KeyLabel {
    /// The longest, in bytes.
    pub const MAX_BYTES: usize = 127;

    /// It as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyLabel {
    type Error = InvalidLabel;

    fn try_from(text: String) -> Result<Self, InvalidLabel> {
        if text.is_empty() {
            Err(InvalidLabel::Empty)
        } else if text.len() > Self::MAX_BYTES {
            Err(InvalidLabel::Long { bytes: text.len() })
        } else if let Some(control) = text.chars().find(|c| c.is_control()) {
            Err(InvalidLabel::Control { control })
        } else {
            Ok(Self(text))
        }
    }
}

impl std::str::FromStr for KeyLabel {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for KeyLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no label.
#[derive(Debug, Error, Eq, PartialEq)]
pub enum InvalidLabel {
    /// It has a control character.
    #[error("a label has no control characters; this one has `{}`", control.escape_unicode())]
    Control {
        /// The first.
        control: char,
    },
    /// It is empty.
    #[error("the label is empty")]
    Empty,
    /// It is too long.
    #[error("a label has at most {} bytes; this one has {bytes}", KeyLabel::MAX_BYTES)]
    Long {
        /// How many it has.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_label_is_counted_in_bytes() {
        assert!("x".repeat(127).parse::<KeyLabel>().is_ok());
        assert_eq!("x".repeat(128).parse::<KeyLabel>(), Err(InvalidLabel::Long { bytes: 128 }));
        assert!("\u{e9}".repeat(63).parse::<KeyLabel>().is_ok());
        let long = "\u{e9}".repeat(64).parse::<KeyLabel>();
        assert_eq!(long, Err(InvalidLabel::Long { bytes: 128 }));
        assert_eq!("".parse::<KeyLabel>(), Err(InvalidLabel::Empty));
    }

    #[test]
    fn control_characters_of_every_kind_are_refused() {
        for control in ['\0', '\n', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}'] {
            let label = format!("a{control}b").parse::<KeyLabel>();
            assert_eq!(label, Err(InvalidLabel::Control { control }));
        }
    }

    proptest! {
        #[test]
        fn a_label_is_printed_as_it_was(text in any::<String>()) {
            match text.parse::<KeyLabel>() {
                Ok(label) => {
                    prop_assert_eq!(label.as_str(), &text);
                    prop_assert_eq!(label.to_string(), text);
                }
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }
    }
}
