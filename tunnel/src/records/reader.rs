//! Records as they come: in pieces.

use thiserror::Error;

use super::{MAX_RECORD, Record, RecordError};

/// Reads records from pieces of them, and holds the beginning of one whose end has not come yet.
#[derive(Debug, Default)]
pub struct RecordReader(Vec<u8>);

impl RecordReader {
    /// Adds to `records` those that end in `bytes`, but for those that only a later version knows.
    ///
    /// # Errors
    ///
    /// [`Malformed`], after what came before it was added. What follows cannot be understood.
    pub fn read(&mut self, bytes: &[u8], records: &mut Vec<Record>) -> Result<(), Malformed> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.0.len() + piece.len() > MAX_RECORD {
                return Err(Malformed::TooLong);
            }
            if !piece.ends_with(b"\n") {
                self.0.extend(piece);
            } else if self.0.is_empty() {
                records.extend(Record::parse(piece)?);
            } else {
                self.0.extend(piece);
                records.extend(Record::parse(&std::mem::take(&mut self.0))?);
            }
        }
        Ok(())
    }
}

/// What no inproxy tells.
#[derive(Debug, Error)]
pub enum Malformed {
    /// A record is longer than [`MAX_RECORD`].
    #[error("a record is longer than {MAX_RECORD} bytes")]
    TooLong,
    /// It is not a record.
    #[error(transparent)]
    Strange(#[from] RecordError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Snapshot;

    #[test]
    fn what_came_before_something_strange_is_not_lost() {
        let record = Snapshot::default().encode();
        let stream = [&record, &record, &b"strange\n"[..], &record].concat();
        for size in [1, 7, stream.len()] {
            let (mut reader, mut records) = (RecordReader::default(), Vec::new());
            let mut pieces = stream.chunks(size);
            let read = pieces.try_for_each(|piece| reader.read(piece, &mut records));
            assert!(matches!(read, Err(Malformed::Strange(_))), "{size}");
            assert_eq!(records, vec![Record::Snapshot(Snapshot::default()); 2], "{size}");
        }
    }

    #[test]
    fn a_record_without_end_is_not_read_for_ever() {
        let (mut reader, mut records) = (RecordReader::default(), Vec::new());
        assert!(reader.read(&[b' '; MAX_RECORD], &mut records).is_ok());
        assert!(matches!(reader.read(b"\n", &mut records), Err(Malformed::TooLong)));
        assert!(records.is_empty());
    }
}
