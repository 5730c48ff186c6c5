//! Bytes that say whose they are, and where in their stream they belong.

/// The endless stream of bytes that one end sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    name: u64,
}

impl Bytes {
    /// A stream of its own for each `seed`, stream, and end.
    pub(crate) fn new(seed: u64, index: usize, is_client: bool) -> Self {
        Self { name: seed << 24 | (index as u64) << 1 | u64::from(is_client) }
    }

    /// Whose bytes begin with these, among those of a seed.
    pub(crate) fn whose(seed: u64, first: [u8; NAME]) -> Option<usize> {
        let name = u64::from_be_bytes(first);
        let is_clients = name & 1 == 1 && name >> 24 == seed & u64::MAX >> 24;
        is_clients.then(|| usize::try_from(name >> 1 & 0x007f_ffff).unwrap())
    }

    /// So many bytes from `position` on.
    pub(crate) fn at(self, position: u64, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + NAME);
        let mut block = position / NAME as u64;
        let skipped = usize::try_from(position % NAME as u64).unwrap();
        while bytes.len() < count + skipped {
            bytes.extend(self.block(block).to_be_bytes());
            block += 1;
        }
        bytes.truncate(count + skipped);
        bytes.drain(..skipped);
        bytes
    }

    /// Whether `bytes` stand at `position`.
    pub(crate) fn match_at(self, position: u64, bytes: &[u8]) -> bool {
        self.at(position, bytes.len()) == bytes
    }

    fn block(self, block: u64) -> u64 {
        // The first is the name itself.
        self.name ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// How many bytes the name has.
pub(crate) const NAME: usize = 8;
