//! Frames: a length of four bytes, little-endian, and so many bytes.

use std::io::{self, Read, Write};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// The largest frame between host-client and enclave-app, in bytes without its length.
pub const MAX_BYTES: usize = 64 * 1024;

/// How long the length is.
pub const HEADER_BYTES: usize = 4;

/// The length that a header announces, if it is one that `limit` allows. Nothing needs to be
/// allocated before this is known.
///
/// # Errors
///
/// [`FrameError::Empty`] and [`FrameError::Large`].
pub fn length(header: [u8; HEADER_BYTES], limit: usize) -> Result<usize, FrameError> {
    let bytes = u32::from_le_bytes(header);
    match usize::try_from(bytes) {
        Ok(0) => Err(FrameError::Empty),
        Ok(bytes) if bytes <= limit => Ok(bytes),
        _ => Err(FrameError::Large { bytes: bytes.into(), limit }),
    }
}

/// A frame with this content.
///
/// # Errors
///
/// [`FrameError::Empty`] and [`FrameError::Large`].
pub fn encode(content: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    if content.is_empty() {
        return Err(FrameError::Empty);
    }
    let large = FrameError::Large { bytes: content.len() as u64, limit };
    let header = match u32::try_from(content.len()) {
        Ok(bytes) if content.len() <= limit => bytes.to_le_bytes(),
        _ => return Err(large),
    };
    Ok(Zeroizing::new([&header, content].concat()))
}

/// Reads the content of the next frame; nothing where the stream ends between frames.
///
/// # Errors
///
/// [`FrameError`].
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<Zeroizing<Vec<u8>>>, FrameError> {
    let Some(length) = read_length(stream, limit).await? else { return Ok(None) };
    read_content(stream, length).await.map(Some)
}

/// The first half of [`read`]: how long the next frame is.
///
/// # Errors
///
/// [`FrameError`].
pub async fn read_length(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<usize>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match stream.read(&mut header[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(FrameError::Truncated),
            n => filled += n,
        }
    }
    length(header, limit).map(Some)
}

/// The second half of [`read`]: the content, of which the length is known to be bounded.
///
/// # Errors
///
/// [`FrameError::Io`] and [`FrameError::Truncated`].
pub async fn read_content(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    // In one piece from the start: a vector that grows leaves copies behind that nobody wipes.
    let mut content = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut content).await?;
    Ok(content)
}

/// Writes a frame with this content.
///
/// # Errors
///
/// [`FrameError`].
pub async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    content: &[u8],
    limit: usize,
) -> Result<(), FrameError> {
    // One write, since a header alone would be a packet of its own.
    stream.write_all(&encode(content, limit)?).await?;
    stream.flush().await?;
    Ok(())
}

/// As [`read`], for threads that may wait.
///
/// # Errors
///
/// [`FrameError`].
pub fn read_blocking(
    stream: &mut impl Read,
    limit: usize,
) -> Result<Option<Zeroizing<Vec<u8>>>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    // A stream that ends here ends between frames.
    loop {
        match stream.read(&mut header[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    stream.read_exact(&mut header[1..])?;
    let mut content = Zeroizing::new(vec![0; length(header, limit)?]);
    stream.read_exact(&mut content)?;
    Ok(Some(content))
}

/// As [`write`](fn@write), for threads that may wait.
///
/// # Errors
///
/// [`FrameError`].
pub fn write_blocking(
    stream: &mut impl Write,
    content: &[u8],
    limit: usize,
) -> Result<(), FrameError> {
    stream.write_all(&encode(content, limit)?)?;
    Ok(())
}

/// What is not a frame.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It has no content.
    #[error("the frame is empty")]
    Empty,
    /// The stream failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// It is larger than it may be.
    #[error("the frame has {bytes} bytes; at most {limit} are allowed")]
    Large {
        /// What its header says.
        bytes: u64,
        /// What is allowed.
        limit: usize,
    },
    /// The stream ended in the midst of it.
    #[error("the connection ended in the midst of a frame")]
    Truncated,
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests;
