//! What is wrong with a message.

use std::fmt::Display;

use serde::de;
use thiserror::Error;

/// A message that is not what it should be. The words never contain the value of a member, which
/// may be a secret; and they are short and printable, whatever the message was.
#[derive(Debug, Error, Eq, PartialEq)]
#[error("{0}")]
pub struct Malformed(String);

impl Malformed {
    pub(crate) fn new(words: impl Display) -> Self {
        Self(excerpt(&words.to_string(), MAX_WORDS))
    }

    /// As [`Self::new`], about one member.
    pub(crate) fn member(name: &str, words: impl Display) -> Self {
        Self::new(format_args!("member `{}`: {words}", excerpt(name, MAX_NAME)))
    }
}

impl de::Error for Malformed {
    fn custom<T: Display>(words: T) -> Self {
        Self::new(words)
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        let name = excerpt(name, MAX_NAME);
        if expected.is_empty() {
            Self::new(format_args!("there is no member `{name}` here"))
        } else {
            Self::new(format_args!(
                "there is no member `{name}` here, but `{}`",
                expected.join("`, `")
            ))
        }
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(format_args!("the member `{name}` is missing"))
    }
}

/// What serde_json says, without the value that it says it of: `invalid type: string "..."`.
pub(crate) fn without_value(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if !error.is_data() {
        // The grammar's words have no values, and their position is that in the message.
        return text;
    }
    // Here the position is one within the member.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words);
    for subject in ["invalid type: ", "invalid value: "] {
        let Some((before, after)) = text.split_once(subject) else { continue };
        // The value comes between; it may contain anything, even this, but not after the last one.
        let Some((value, expected)) = after.rsplit_once(", expected ") else { continue };
        let kind = value.split(['`', '"']).next().unwrap_or_default().trim_end();
        return format!("{before}{subject}{kind}, expected {expected}");
    }
    text.to_owned()
}

/// The beginning of a text, without control characters.
pub(crate) fn excerpt(text: &str, max_chars: usize) -> String {
    let mut shown = text.chars().flat_map(|c| {
        let escaped = c.is_control().then(|| c.escape_unicode());
        let plain = escaped.is_none().then_some(c);
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    let mut excerpt: String = shown.by_ref().take(max_chars).collect();
    if shown.next().is_some() {
        excerpt.push_str("...");
    }
    excerpt
}

/// How much of a name is shown, in characters.
const MAX_NAME: usize = 40;

/// How long the words are, in characters; the longest of our own fit.
const MAX_WORDS: usize = 300;

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::action::Encrypt;
    use crate::request::Credentials;

    fn mistake<'a, T: Deserialize<'a>>(json: &'a str) -> String {
        without_value(&serde_json::from_str::<T>(json).err().unwrap())
    }

    #[test]
    fn values_are_not_shown() {
        let words = mistake::<Credentials>(r#""hunter2""#);
        assert_eq!(words, "invalid type: string, expected struct Credentials");
        let words = mistake::<Credentials>(r#""hunter2\", expected `hunter3""#);
        assert_eq!(words, "invalid type: string, expected struct Credentials");
        let words = mistake::<Credentials>(r#"{"access-key-id":12345678}"#);
        assert_eq!(words, "invalid type: integer, expected a string");
        let words = mistake::<Encrypt>(r#"{"label":"k","plaintext":"hunter2!"}"#);
        assert_eq!(words, "not base64 with padding (RFC 4648 section 4)");
    }

    #[test]
    fn words_without_values_stay_as_they_are() {
        assert_eq!(mistake::<Credentials>("{}"), "missing field `access-key-id`");
        assert_eq!(mistake::<Credentials>("{"), "EOF while parsing an object at line 1 column 1");
    }

    #[test]
    fn words_are_short_and_printable() {
        let words = Malformed::new("\u{1b}[31m".repeat(1000)).to_string();
        assert_eq!(words.chars().count(), MAX_WORDS + 3, "{words}");
        assert!(!words.contains('\u{1b}'));
        assert!(words.ends_with("..."));
    }
}
