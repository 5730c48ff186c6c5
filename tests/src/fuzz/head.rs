//! The heads of a tunnel, in pieces.

use std::fmt::{Debug, Display};
use std::future::poll_fn;
use std::task::Poll;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tunnel::head::{self, MAX_HEAD, Request};
use tunnel::head_reader::{HeadError, HeadReader};
use tunnel::stream::Stream;

use super::cursor::Cursor;
use super::shown::assert_line;

/// A request or an answer means the same however it is cut, and is read no further than it goes.
pub fn head(data: &[u8]) {
    every_prefix(data, head::parse_request);
    every_prefix(data, head::parse_answer);
    length_is_bounded(data);
    requests_are_read_as_written(data);
    in_pieces(data);
}

/// What a head is read as, and how long it was.
type Read<T, E> = Result<Option<(T, usize)>, E>;

/// What is certain of a beginning is so of the whole.
fn every_prefix<T: Debug + PartialEq, E: Display>(
    data: &[u8],
    parse: impl Fn(&[u8]) -> Read<T, E>,
) {
    let whole = parse(data).map_err(|error| error.to_string());
    match &whole {
        Ok(None) => assert!(data.len() < MAX_HEAD, "it waits for ever"),
        Ok(Some((_, length))) => assert!(*length <= data.len().min(MAX_HEAD)),
        Err(error) => assert_line(error, 80 * 10 + 200),
    }
    // A long text costs a parse for each beginning; where they are tried only here and there, the
    // beginnings of other texts make up for it.
    let step = 1 + data.len() / 256;
    for end in (0..data.len()).step_by(step) {
        match parse(&data[..end]).map_err(|error| error.to_string()) {
            Ok(None) => {}
            result => assert_eq!(result, whole, "of {end} bytes, and of {}", data.len()),
        }
    }
}

/// A head of just as much as is allowed is read, and one of a byte more is not.
fn length_is_bounded(data: &[u8]) {
    let Ok(Some((request, length))) = head::parse_request(data) else { return };
    let padded = |total: usize| {
        let field = b"\r\nX-Padding: ";
        let padding = total.checked_sub(length + field.len())?;
        let (fields, end) = data[..length].split_at(length.checked_sub(4)?);
        // A head may end in bare LF, too.
        (end == b"\r\n\r\n")
            .then(|| [fields, field, &vec![b'a'; padding], end, b"payload"].concat())
    };
    let Some(fits) = padded(MAX_HEAD) else { return };
    match head::parse_request(&fits) {
        Ok(read) => assert_eq!(read, Some((request, MAX_HEAD))),
        // One field more may be one too many.
        Err(error) => assert!(error.to_string().contains("too many headers"), "{error}"),
    }
    for total in [MAX_HEAD + 1, 2 * MAX_HEAD] {
        padded(total).map(|long| head::parse_request(&long).expect_err("it is too long"));
    }
}

fn requests_are_read_as_written(data: &[u8]) {
    let Ok(Some((request, _))) = head::parse_request(data) else { return };
    let written = match &request {
        Request::Notices(session) => head::notices_request(*session),
        Request::Records => head::RECORDS_REQUEST.to_owned(),
        Request::Tunnel(destination, id) => head::request(destination, *id),
    };
    let read = head::parse_request(written.as_bytes()).expect("a request");
    assert_eq!(read, Some((request, written.len())));
}

/// Whoever reads pieces from a socket gets the same, and what follows it.
fn in_pieces(data: &[u8]) {
    // The pieces are as long as the last bytes say, so that a text is still one.
    let mut sizes = Cursor::new(&data[data.len().saturating_sub(8)..]);
    let whole = match head::parse_request(data) {
        Ok(Some((request, length))) => Some((request, &data[length..])),
        Ok(None) | Err(_) => None,
    };
    let mut left = data;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let read = runtime.expect("a runtime").block_on(async {
        let (mut peer, stream) = UnixStream::pair().expect("a pair");
        let (mut stream, mut reader) =
            (Stream::try_from(stream).expect("a stream"), HeadReader::default());
        loop {
            let (piece, rest) = left.split_at(left.len().min(1 + sizes.below(PIECE)));
            left = rest;
            if piece.is_empty() {
                peer.shutdown().await.expect("a half-close");
            }
            peer.write_all(piece).await.expect("room for a piece");
            let mut turns = 0;
            let result = poll_fn(|cx| {
                turns += 1;
                match reader.poll(cx, &mut stream, head::parse_request) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    // By the second turn the runtime has seen the piece; the end is waited for.
                    Poll::Pending if turns > 2 && !piece.is_empty() => Poll::Ready(None),
                    Poll::Pending => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                }
            });
            if let Some(result) = result.await {
                break result;
            }
        }
    });
    match (read, whole) {
        (Ok((read, buffer)), Some((request, payload))) => {
            assert_eq!(read, request);
            let sent = &payload[..payload.len() - left.len()];
            assert_eq!(buffer.filled(), sent);
        }
        (Err(HeadError::Stream(_)), None) => assert!(left.is_empty()),
        (Err(HeadError::Parse(_)), None) => {}
        (read, whole) => panic!("{read:?} instead of {whole:?}"),
    }
}

/// The longest piece, in bytes.
const PIECE: usize = 64;
