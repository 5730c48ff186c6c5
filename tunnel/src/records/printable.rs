//! Anybody's bytes as a text of one line, with nothing in it that a terminal or a journal obeys.

use std::fmt::Write;

use crate::log_escape::is_visible_ascii;

/// `bytes` as text, in which no more than `most` bytes are theirs. Characters that steer something
/// are escaped, and so is what is no UTF-8; how much is left out stands at the end.
#[must_use]
pub fn printable(bytes: &[u8], most: usize) -> String {
    printable_beginning(bytes, 0, most)
}

/// As [`printable`], where `beyond` bytes more are not at hand.
#[must_use]
pub fn printable_beginning(bytes: &[u8], beyond: usize, most: usize) -> String {
    // As nearly all is; and it may come by the megabyte.
    if beyond == 0
        && bytes.len() <= most
        && is_visible_ascii(bytes)
        && let Ok(text) = str::from_utf8(bytes)
    {
        return text.to_owned();
    }
    let mut text = String::with_capacity(bytes.len().min(most));
    let mut used = 0;
    'all: for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let before = text.len();
            if steers(c) {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
            if text.len() > most {
                text.truncate(before);
                break 'all;
            }
            used += c.len_utf8();
        }
        for byte in chunk.invalid() {
            if text.len() + 4 > most {
                break 'all;
            }
            // A string takes all.
            let _ = write!(text, "\\x{byte:02x}");
            used += 1;
        }
    }
    let left = bytes.len() - used + beyond;
    if left > 0 {
        let _ = write!(text, "… and {left} bytes more");
    }
    text
}

/// Whether a character does more than to be seen: it moves a cursor, ends a line, or changes the
/// direction of what follows (UAX 9).
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["", "a \"b\" \\ 'c'", "häßlich, 統一, 🦀"] {
            assert_eq!(printable(text.as_bytes(), 1000), text);
        }
    }

    #[test]
    fn what_steers_is_escaped() {
        assert_eq!(printable(b"\x1b[31m\ta\r\0\x7f", 1000), r"\u{1b}[31m\ta\r\u{0}\u{7f}");
        assert_eq!(printable("\u{202e}x\u{9b}".as_bytes(), 1000), r"\u{202e}x\u{9b}");
        assert_eq!(printable(b"a\xff\xfe\xc3", 1000), r"a\xff\xfe\xc3");
    }

    #[test]
    fn what_is_too_long_says_how_much() {
        assert_eq!(printable(b"abcdef", 6), "abcdef");
        assert_eq!(printable(b"abcdefg", 6), "abcdef… and 1 bytes more");
        assert_eq!(printable("aä".as_bytes(), 2), "a… and 2 bytes more");
        assert_eq!(printable(b"a\n", 2), "a… and 1 bytes more");
        assert_eq!(printable(b"\xff\xff", 7), r"\xff… and 1 bytes more");
        assert_eq!(printable_beginning(b"abc", 7, 6), "abc… and 7 bytes more");
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_line_of_bounded_length(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            most in 0usize..400,
        ) {
            let text = printable(&bytes, most);
            prop_assert!(text.len() <= most + 40);
            prop_assert!(!text.chars().any(steers));
        }
    }
}
