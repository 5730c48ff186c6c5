//! Writing a message.

use std::io;

use serde::Serialize;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::frame::MAX_BYTES;

/// The JSON of a message, if it fits in a frame.
pub(crate) fn encode(message: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, TooLarge> {
    let mut json = Bounded(Zeroizing::new(Vec::with_capacity(MAX_BYTES)));
    // Nothing else can fail: there are no maps, so no keys that are not strings.
    serde_json::to_writer(&mut json, message).map_err(|_| TooLarge)?;
    Ok(json.0)
}

/// A message that does not fit in a frame.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the message would have more than {MAX_BYTES} bytes")]
pub struct TooLarge;

/// A vector that never moves: each time that one grows, it leaves a copy behind that nobody wipes.
struct Bounded(Zeroizing<Vec<u8>>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
