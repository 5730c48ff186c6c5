//! One event, one line, of characters that can be seen: whatever it tells of.
//!
//! What tracing formats is a line already, in which strings are quoted and JSON's are escaped. But a
//! field that is shown as it shows itself may have line breaks, and neither way escapes what
//! turns text around or has no width.

use std::borrow::Cow;
use std::fmt::Write;

use crate::log::LogFormat;

/// The line with nothing in it that moves a cursor, ends a line or cannot be seen. Of a `coloured`
/// one the sequences that make it so stay: tracing has escaped all others.
pub(crate) fn escape(line: &[u8], format: LogFormat, coloured: bool) -> Cow<'_, [u8]> {
    let (body, end) = match line.strip_suffix(b"\n") {
        Some(body) => (body, "\n"),
        None => (line, ""),
    };
    if is_visible_ascii(body)
        || coloured && body.iter().all(|byte| matches!(*byte, b' '..=b'~' | ESC))
    {
        return Cow::from(line);
    }
    let mut escaped = String::with_capacity(line.len() + 64);
    for char in String::from_utf8_lossy(body).chars() {
        match char {
            ' '..='~' => escaped.push(char),
            '\u{1b}' if coloured => escaped.push(char),
            _ if is_visible(char) => escaped.push(char),
            _ if format == LogFormat::Json => {
                // It stands in a string, as all that is not ASCII does; see RFC 8259 section 7.
                for unit in char.encode_utf16(&mut [0; 2]) {
                    // A string takes all.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
            _ => escaped.extend(char.escape_debug()),
        }
    }
    escaped.push_str(end);
    Cow::from(escaped.into_bytes())
}

/// Whether all of these are characters of ASCII that can be seen. Every line is looked at so: at
/// many bytes at a time, which a search for the first other one would not allow.
pub(crate) fn is_visible_ascii(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'))
}

/// Whether Rust would show a character as it is: no control character, none without width, none
/// that turns the direction of others.
fn is_visible(char: char) -> bool {
    char.escape_debug().len() == 1
}

const ESC: u8 = 0x1b;

#[cfg(test)]
mod tests {
    use super::*;
    use LogFormat::{Json, Text};
    use proptest::prelude::*;

    fn shown(line: &str, format: LogFormat) -> String {
        String::from_utf8(escape(line.as_bytes(), format, false).into_owned()).unwrap()
    }

    #[test]
    fn what_can_be_seen_stays() {
        for line in ["", "\n", "a=\"b\" c='d' `e` \\ ~\n", "bücher 文字 …\n"] {
            assert_eq!(shown(line, Text), line);
            assert_eq!(shown(line, Json), line);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_spelt_out() {
        assert_eq!(shown("a\nb\r\tc\0\n", Text), "a\\nb\\r\\tc\\0\n");
        assert_eq!(shown("\u{1b}[2J\u{9b}31m", Text), "\\u{1b}[2J\\u{9b}31m");
        assert_eq!(shown("\u{202e}\u{200b}\u{feff}", Text), "\\u{202e}\\u{200b}\\u{feff}");
        assert_eq!(shown("\"\u{85}\u{2028}\u{e0041}\"", Json), "\"\\u0085\\u2028\\udb40\\udc41\"");
    }

    #[test]
    fn colours_stay_where_they_are_wanted() {
        let line = b"\x1b[32m INFO\x1b[0m ready\n";
        assert_eq!(escape(line, Text, true), &line[..]);
        assert_eq!(escape(line, Text, false), &b"\\u{1b}[32m INFO\\u{1b}[0m ready\n"[..]);
    }

    proptest! {
        #[test]
        fn any_bytes_become_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for format in [Json, Text] {
                let line = [&bytes[..], b"\n"].concat();
                let escaped = String::from_utf8(escape(&line, format, false).into_owned()).unwrap();
                prop_assert_eq!(escaped.find('\n'), Some(escaped.len() - 1));
                let body = &escaped[..escaped.len() - 1];
                prop_assert!(body.chars().all(|char| matches!(char, ' '..='~') || is_visible(char)));
            }
        }

        #[test]
        fn json_says_the_same_as_before(text in any::<String>()) {
            let line = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&shown(&line, Json)).unwrap(), text);
        }
    }
}
