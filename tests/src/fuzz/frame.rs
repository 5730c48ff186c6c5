//! Frames, in pieces.

use std::io::{self, Read};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use protocol::frame::{self, FrameError, HEADER_BYTES};
use tokio::io::{AsyncRead, ReadBuf};

use super::cursor::Cursor;

/// A stream holds the same frames however it is cut, and ends in the same way.
pub fn frame(data: &[u8]) {
    let mut choices = Cursor::new(data);
    let limit = choices.pick(&LIMITS);
    let count = choices.below(8);
    let pieces = choices.bytes(count);
    let stream = choices.rest();

    let expected = all_frames(stream, limit);
    let mut pieces_of = Pieces { stream, pieces: pieces.iter().cycle(), pause: false };
    assert_eq!(read_all(|| frame::read_blocking(&mut pieces_of, limit)), expected);
    let mut pieces_of = Pieces { stream, pieces: pieces.iter().cycle(), pause: false };
    assert_eq!(read_all(|| finish(frame::read(&mut pieces_of, limit))), expected);

    let (contents, end) = expected;
    let written: Vec<u8> = contents
        .iter()
        .flat_map(|content| frame::encode(content, limit).expect("a frame").to_vec())
        .collect();
    assert!(stream.starts_with(&written));
    assert_eq!(written == stream, end == End::Clean);
    match frame::encode(stream, limit) {
        Ok(frame) => assert_eq!(all_frames(&frame, limit), (vec![stream.to_vec()], End::Clean)),
        Err(FrameError::Empty) => assert!(stream.is_empty()),
        Err(FrameError::Large { bytes, .. }) => {
            assert!(stream.len() > limit && bytes == stream.len() as u64);
        }
        Err(error) => panic!("{error}"),
    }
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Clean,
    Empty,
    Large(u64),
    Truncated,
}

/// The contents of all frames, as the documentation has them.
fn all_frames(mut stream: &[u8], limit: usize) -> (Vec<Vec<u8>>, End) {
    let mut contents = Vec::new();
    loop {
        if stream.is_empty() {
            return (contents, End::Clean);
        }
        let Some((header, rest)) = stream.split_first_chunk::<HEADER_BYTES>() else {
            return (contents, End::Truncated);
        };
        let length = u32::from_le_bytes(*header);
        match usize::try_from(length).expect("32 bits") {
            0 => return (contents, End::Empty),
            long if long > limit => return (contents, End::Large(length.into())),
            long if long > rest.len() => return (contents, End::Truncated),
            length => {
                contents.push(rest[..length].to_vec());
                stream = &rest[length..];
            }
        }
    }
}

fn read_all<C: AsRef<[u8]>>(
    mut read: impl FnMut() -> Result<Option<C>, FrameError>,
) -> (Vec<Vec<u8>>, End) {
    let mut contents = Vec::new();
    let end = loop {
        match read() {
            Ok(Some(content)) => contents.push(content.as_ref().to_vec()),
            Ok(None) => break End::Clean,
            Err(FrameError::Empty) => break End::Empty,
            Err(FrameError::Large { bytes, .. }) => break End::Large(bytes),
            Err(FrameError::Truncated) => break End::Truncated,
            Err(error) => panic!("{error}"),
        }
    };
    (contents, end)
}

/// Polls until it is done. Whoever is waited for is always about to go on.
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
    }
}

/// A stream of which each read gets a piece, after a pause.
struct Pieces<'a, P> {
    stream: &'a [u8],
    /// How long each is, less one.
    pieces: P,
    pause: bool,
}

impl<'a, P: Iterator<Item = &'a u8>> Pieces<'_, P> {
    fn next(&mut self, most: usize) -> Option<&[u8]> {
        self.pause = !self.pause;
        if self.pause {
            return None;
        }
        let piece = self.pieces.next().map_or(usize::MAX, |piece| 1 + usize::from(*piece));
        let (piece, rest) = self.stream.split_at(piece.min(most).min(self.stream.len()));
        self.stream = rest;
        Some(piece)
    }
}

impl<'a, P: Iterator<Item = &'a u8>> Read for Pieces<'_, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.next(buffer.len()).ok_or(io::ErrorKind::Interrupted)?;
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

impl<'a, P: Iterator<Item = &'a u8> + Unpin> AsyncRead for Pieces<'_, P> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut().next(buffer.remaining()) {
            None => Poll::Pending,
            Some(piece) => {
                buffer.put_slice(piece);
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// In bytes; the last is that between host-client and enclave-app.
const LIMITS: [usize; 4] = [1, 16, 255, frame::MAX_BYTES];
