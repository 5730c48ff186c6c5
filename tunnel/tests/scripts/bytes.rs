//! Bytes that can be told apart by where they come from and by their place.

use std::sync::LazyLock;

/// The endless stream of bytes that one end sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    offset: usize,
}

impl Bytes {
    /// A stream of its own for each `seed`, as far as that can be.
    pub(crate) fn new(seed: u64) -> Self {
        Self { offset: fastrand::Rng::with_seed(seed).usize(..PERIOD) }
    }

    /// What stands at `position`, up to `most` bytes of it.
    pub(crate) fn at(self, position: u64, most: usize) -> &'static [u8] {
        let start = (self.offset + usize::try_from(position).unwrap()) % PERIOD;
        &TABLE[start..TABLE.len().min(start + most)]
    }

    /// Whether `bytes` stand at `position`.
    pub(crate) fn match_at(self, mut position: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.at(position, bytes.len());
            if !bytes.starts_with(expected) {
                return false;
            }
            position += expected.len() as u64;
            bytes = &bytes[expected.len()..];
        }
        true
    }
}

/// A prime, so that no buffer's size divides it.
const PERIOD: usize = 65_521;

static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = fastrand::Rng::with_seed(0);
    let period: Vec<_> = std::iter::repeat_with(|| rng.u8(..)).take(PERIOD).collect();
    period.repeat(3)
});
