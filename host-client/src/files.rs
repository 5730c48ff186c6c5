//! What actions read and write.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

/// All bytes of a file, or of standard input.
///
/// # Errors
///
/// [`FileError`].
pub fn read(path: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let name = || name(path, "standard input");
    let read = match path {
        Some(path) => File::open(path).and_then(read_bounded),
        None => read_bounded(io::stdin().lock()),
    };
    match read {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(FileError::Large { name: name() }),
        Err(source) => Err(FileError::Read { name: name(), source }),
    }
}

/// Whether somebody sits before standard input, and may not know that it is read.
#[must_use]
pub fn is_typed(path: Option<&Path>) -> bool {
    path.is_none() && io::stdin().is_terminal()
}

/// Writes a file that only its owner may read if it is new; or standard output.
///
/// # Errors
///
/// [`FileError`].
pub fn write(path: Option<&Path>, bytes: &[u8]) -> Result<(), FileError> {
    let written = match path {
        Some(path) => OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(bytes)),
        None => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
    };
    written.map_err(|source| FileError::Write { name: name(path, "standard output"), source })
}

/// What people call a file, or the stream in its place.
#[must_use]
pub fn name(path: Option<&Path>, stream: &str) -> String {
    path.map_or_else(|| stream.to_owned(), |path| path.display().to_string())
}

/// Why something could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is not base64.
    #[error("`{name}` is not base64; if it is raw bytes, say --raw")]
    Base64 {
        /// The file.
        name: String,
    },
    /// No request could hold it.
    #[error("`{name}` has more than {MAX_INPUT} bytes, which no request can hold")]
    Large {
        /// The file.
        name: String,
    },
    /// It could not be read.
    #[error("failed to read `{name}`")]
    Read {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It could not be written.
    #[error("failed to write `{name}`")]
    Write {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// All that `from` has, unless that is too much.
fn read_bounded(from: impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // In one piece from the start: a vector that grows leaves copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_INPUT + 1));
    from.take(MAX_INPUT as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= MAX_INPUT).then_some(bytes))
}

/// The most that is read, in bytes. A request holds less; base64 with line breaks needs more.
const MAX_INPUT: usize = 128 * 1024;
