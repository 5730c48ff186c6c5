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
    /// The lines that end in `bytes`.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.is_empty() {
                lines.push(text(line, 0));
            } else {
                self.begin(line);
                lines.extend(self.flush());
            }
            bytes = rest;
        }
        self.begin(bytes);
        lines
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

/// A line as text, of which `beyond` bytes more were there.
fn text(line: &[u8], beyond: usize) -> String {
    let line = if beyond == 0 { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    printable_beginning(line, beyond, MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let stream = b"one\n\ntwo\r\n\xff\0\nthree";
        for size in 1..=stream.len() {
            let mut lines = Lines::default();
            let mut all: Vec<_> = stream.chunks(size).flat_map(|chunk| lines.feed(chunk)).collect();
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
            assert!(lines.feed(&[b'x'; 1024]).is_empty());
        }
        assert!(lines.begun.capacity() <= 2 * MAX_TEXT);
        let line = lines.feed(b"\nnext\n");
        let expected = format!("{}… and {} bytes more", "x".repeat(MAX_TEXT), 1_048_576 - MAX_TEXT);
        assert_eq!(line, [expected, "next".into()]);
    }
}
