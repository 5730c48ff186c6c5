//! What a command prints for whoever has called it.

use std::io::{self, Write};

/// Prints `text` to standard output, with one end of line.
///
/// # Errors
///
/// If it cannot be written, such as to a full disk. It is no error that nobody reads on, as with
/// `| head`.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
