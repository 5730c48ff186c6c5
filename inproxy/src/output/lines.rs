//! Cuts a stream into lines, whatever is in it.

use tunnel::records::{MAX_TEXT, printable_beginning};

/// The beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// How many bytes of it were not kept.
    beyond: usize,
}

impl Lines {
    /// Adds to `ended` the lines that end in `bytes`, but only the last `most` of them; returns how
    /// many there were before those.
    pub(super) fn feed(&mut self, mut bytes: &[u8], most: usize, ended: &mut Vec<String>) -> u64 {
        let all = bytes.iter().filter(|byte| **byte == b'\n').count();
        let skipped = all.saturating_sub(most);
        if skipped > 0 {
            *self = Self::default();
            bytes = behind(bytes, skipped);
        }
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.is_empty() {
                ended.push(text(line, 0));
            } else {
                self.begin(line);
                ended.extend(self.flush());
            }
            bytes = rest;
        }
        self.begin(bytes);
        skipped as u64
    }

    /// The line that has begun, as if it ended here.
    pub(super) fn flush(&mut self) -> Option<String> {
        let line = (!self.is_empty()).then(|| text(&self.begun, self.beyond));
        *self = Self::default();
        line
    }

    /// Whether no line has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    fn begin(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(MAX_TEXT - self.begun.len());
        self.begun.extend(&bytes[..kept]);
        self.beyond += bytes.len() - kept;
    }
}

/// What comes behind so many lines.
fn behind(bytes: &[u8], lines: usize) -> &[u8] {
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    ends.nth(lines - 1).map_or(&[], |(end, _)| &bytes[end + 1..])
}

/// A line as text, of which `beyond` bytes more were there.
fn text(line: &[u8], beyond: usize) -> String {
    let line = if beyond == 0 { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    printable_beginning(line, beyond, MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many lines were skipped, and those that were not.
    fn feed(lines: &mut Lines, bytes: &[u8], most: usize) -> (u64, Vec<String>) {
        let mut ended = Vec::new();
        (lines.feed(bytes, most, &mut ended), ended)
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let stream = b"one\n\ntwo\r\n\xff\0\nthree";
        for size in 1..=stream.len() {
            let mut lines = Lines::default();
            let mut all = Vec::new();
            for chunk in stream.chunks(size) {
                assert_eq!(lines.feed(chunk, 4, &mut all), 0);
            }
            assert_eq!(all, ["one", "", "two", r"\xff\u{0}"], "{size}");
            assert!(!lines.is_empty());
            all.extend(lines.flush());
            assert_eq!(all[4], "three");
            assert_eq!(lines.flush(), None);
        }
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory_and_tells_its_length() {
        let mut lines = Lines::default();
        for _ in 0..1024 {
            assert!(feed(&mut lines, &[b'x'; 1024], 1).1.is_empty());
        }
        assert!(lines.begun.capacity() <= 2 * MAX_TEXT);
        let (_, ended) = feed(&mut lines, b"\nnext\n", 2);
        let expected = format!("{}… and {} bytes more", "x".repeat(MAX_TEXT), 1_048_576 - MAX_TEXT);
        assert_eq!(ended, [expected, "next".into()]);
    }

    #[test]
    fn of_too_many_only_the_last_are_made() {
        let stream = b"one\ntwo\nthree\nfour\nfi";
        for most in 0..6 {
            let mut lines = Lines::default();
            assert_eq!(feed(&mut lines, b"zero, ", 1), (0, Vec::new()));
            let all = ["zero, one", "two", "three", "four"].map(str::to_owned);
            let skipped = 4_usize.saturating_sub(most);
            let expected = (skipped as u64, all[skipped..].to_vec());
            assert_eq!(feed(&mut lines, stream, most), expected);
            assert_eq!(feed(&mut lines, b"ve\n", 1).1, ["five"]);
        }
        let (skipped, ended) = feed(&mut Lines::default(), &b"y\n".repeat(32_768), 2000);
        assert_eq!((skipped, ended.len()), (30_768, 2000));
    }
}
