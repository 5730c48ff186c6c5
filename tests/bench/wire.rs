//! What a load says to its server: the first bytes of every connection.

use std::io;
use std::time::Duration;

/// What the server is to do with a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    /// To send for so long, then end.
    Download(Duration),
    /// To send every message back; they have so many bytes, of which the head is a part.
    Echo(usize),
    /// To take what comes until it ends, then say how many bytes that were after the head.
    Upload,
}

impl Wish {
    /// What the first bytes of a connection ask for.
    ///
    /// # Errors
    ///
    /// They are no whole head.
    pub(crate) fn parse(bytes: &[u8]) -> io::Result<Self> {
        let (Some(&kind), Some(number)) = (bytes.first(), bytes.get(8..HEAD)) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let number = number.try_into().map(u64::from_be_bytes).unwrap_or_default();
        match kind {
            b'd' => Ok(Self::Download(Duration::from_millis(number))),
            b'e' => Ok(Self::Echo(usize::try_from(number).map_err(io::Error::other)?.max(HEAD))),
            b'u' => Ok(Self::Upload),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The head that asks for it.
    pub(crate) fn head(self) -> [u8; HEAD] {
        let (kind, number) = match self {
            Self::Download(limit) => (b'd', u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            Self::Echo(size) => (b'e', size as u64),
            Self::Upload => (b'u', 0),
        };
        let mut head = [0; HEAD];
        head[0] = kind;
        head[8..].copy_from_slice(&number.to_be_bytes());
        head
    }
}

/// How long a head is, in bytes. It comes in one piece: no relay divides so little.
pub(crate) const HEAD: usize = 16;

/// How much the client and the server of a bulk transfer read or write at a time, in bytes.
pub(crate) const CHUNK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_was_wished() {
        let limit = Duration::from_millis(1500);
        for wish in [Wish::Download(limit), Wish::Echo(4096), Wish::Upload] {
            assert_eq!(Wish::parse(&wish.head()).unwrap(), wish);
        }
    }

    #[test]
    fn half_a_head_is_an_error() {
        assert!(Wish::parse(&Wish::Upload.head()[..HEAD - 1]).is_err());
    }
}
