//! Records of an inproxy, in pieces; and what outproxy makes of them.

use std::sync::Arc;
use std::time::Duration;

use outproxy::enclaves::{EnclaveId, EnclaveStatus, Enclaves, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tunnel::buffer::Buffer;
use tunnel::records::{MAX_RECORD, MAX_TEXT, Record, RecordReader};
use tunnel::stream::Stream;

use super::cursor::Cursor;
use super::shown::assert_line;

/// A stream holds the same records however it is cut, each of them is read as it is written, and
/// outproxy keeps and counts just these.
pub fn records(data: &[u8]) {
    let mut choices = Cursor::new(data);
    let count = choices.below(8);
    let sizes = choices.bytes(count);
    let stream = choices.rest();
    let pieces = pieces(stream, sizes);

    let expected = all_records(stream);
    let (mut reader, mut records) = (RecordReader::default(), Vec::new());
    let is_good = pieces.iter().all(|piece| reader.read(piece, &mut records).is_ok());
    assert_eq!((&records, is_good), (&expected.0, expected.1));
    for record in &records {
        let written = match record {
            Record::Log(line) => line.encode(),
            Record::Snapshot(snapshot) => snapshot.encode(),
        };
        assert_eq!(Record::parse(&written).expect("a record"), Some(record.clone()));
    }

    let enclaves = Arc::<Enclaves>::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(tell(&enclaves, &pieces));
    let [status] = &enclaves.status()[..] else { panic!("one enclave has told something") };
    judge(status, &expected);
    let mut cursor = enclaves.cursor(None, None);
    for line in enclaves.read(&mut cursor, usize::MAX) {
        assert_line(&line.to_string(), MAX_TEXT + 200);
    }
}

/// Cuts a stream into pieces of these sizes, less one, again and again.
fn pieces<'a>(mut stream: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    let mut pieces = Vec::new();
    while !stream.is_empty() {
        let size = sizes.next().map_or(usize::MAX, |size| 1 + usize::from(*size));
        let (piece, rest) = stream.split_at(size.min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

/// The records of whole lines, up to what is none; and whether there is nothing like that.
fn all_records(mut stream: &[u8]) -> (Vec<Record>, bool) {
    let mut records = Vec::new();
    while let Some(end) = stream.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = stream.split_at(end + 1);
        if line.len() > MAX_RECORD {
            return (records, false);
        }
        match Record::parse(line) {
            Ok(record) => records.extend(record),
            Err(error) => {
                assert_line(&error.to_string(), 10 * MAX_RECORD);
                return (records, false);
            }
        }
        stream = rest;
    }
    (records, stream.len() <= MAX_RECORD)
}

/// An inproxy tells it, half-closes, and waits for outproxy to close.
async fn tell(enclaves: &Arc<Enclaves>, pieces: &[&[u8]]) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let theirs = Stream::try_from(theirs).expect("a stream");
    let connection = enclaves.connect(EnclaveId(None)).expect("the first one");
    let (mut from, mut to) = ours.into_split();
    let telling = async {
        for piece in pieces {
            // It may have closed the connection already.
            let _ = to.write_all(piece).await;
        }
        let _ = to.shutdown().await;
    };
    let hearing = async {
        let mut answers = Vec::new();
        let _ = from.read_to_end(&mut answers).await;
    };
    let serving = serve(connection, theirs, Buffer::holding(b""), Duration::from_secs(5));
    tokio::join!(serving, telling, hearing);
}

/// Lines that came over an earlier connection would not count, unless the inproxy is another one.
fn judge(status: &EnclaveStatus, (records, is_good): &(Vec<Record>, bool)) {
    let (mut started, mut last) = (None, 0);
    let (mut told, mut dropped) = (0, 0_u64);
    for record in records {
        match record {
            Record::Log(line) if line.number > last => {
                last = line.number;
                told += 1;
                dropped = dropped.saturating_add(line.missing);
            }
            Record::Log(_) => {}
            Record::Snapshot(snapshot) if started == Some(snapshot.started) => {}
            Record::Snapshot(snapshot) => (started, last) = (Some(snapshot.started), 0),
        }
    }
    assert_eq!((status.lines.told, status.lines.dropped), (told, dropped));
    assert_eq!((status.malformed, status.connected), (u64::from(!is_good), false));
    serde_json::to_string(status).expect("JSON");
}
