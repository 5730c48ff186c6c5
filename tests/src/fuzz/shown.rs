//! Texts that somebody reads on a terminal, though others chose a part of them.

/// One line, without what a terminal would obey.
pub(super) fn assert_line(text: &str, max_chars: usize) {
    assert!(!text.contains(char::is_control), "control characters: {text:?}");
    assert_short(text, max_chars);
}

/// As [`assert_line`], on several lines.
pub(super) fn assert_lines(text: &str, max_chars: usize) {
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "control characters: {text:?}");
    assert_short(text, max_chars);
}

fn assert_short(text: &str, max_chars: usize) {
    let chars = text.chars().count();
    assert!(chars <= max_chars, "{chars} characters: {text}");
}
