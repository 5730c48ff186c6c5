use std::pin::Pin;
use std::task::{Context, Poll};

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;

/// Reads pieces of these sizes, over and over.
struct Chunks<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    reads: usize,
}

impl<'a> Chunks<'a> {
    fn new(bytes: &'a [u8], sizes: &[usize]) -> Self {
        Self { bytes, sizes: sizes.to_vec(), reads: 0 }
    }

    fn next(&mut self, room: usize) -> &'a [u8] {
        let size = self.sizes[self.reads % self.sizes.len()];
        self.reads += 1;
        let (piece, rest) = self.bytes.split_at(size.min(room).min(self.bytes.len()));
        self.bytes = rest;
        piece
    }
}

impl AsyncRead for Chunks<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let piece = self.get_mut().next(room.remaining());
        room.put_slice(piece);
        Poll::Ready(Ok(()))
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let piece = self.next(room.len());
        room[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

/// What both ways to read make of a stream: all contents, and how it ends.
fn contents(bytes: &[u8], sizes: &[usize], limit: usize) -> (Vec<Vec<u8>>, Result<(), String>) {
    let mut blocking = Vec::new();
    let mut stream = Chunks::new(bytes, sizes);
    let end = loop {
        match read_blocking(&mut stream, limit) {
            Ok(Some(content)) => blocking.push(content.to_vec()),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let waiting = runtime.block_on(async {
        let mut contents = Vec::new();
        let mut stream = Chunks::new(bytes, sizes);
        loop {
            match read(&mut stream, limit).await {
                Ok(Some(content)) => contents.push(content.to_vec()),
                Ok(None) => return (contents, Ok(())),
                Err(error) => return (contents, Err(error.to_string())),
            }
        }
    });
    assert_eq!((&blocking, &end), (&waiting.0, &waiting.1));
    waiting
}

fn frames(contents: &[&[u8]]) -> Vec<u8> {
    contents.iter().flat_map(|content| encode(content, MAX_BYTES).unwrap().to_vec()).collect()
}

#[test]
fn a_frame_is_a_length_in_little_endian_and_so_many_bytes() {
    let content = vec![7; 0x0102];
    let frame = encode(&content, MAX_BYTES).unwrap();
    assert_eq!(frame[..4], [0x02, 0x01, 0, 0]);
    assert_eq!(frame[4..], content);
}

#[test]
fn frames_follow_each_other_on_one_stream() {
    let (read, end) = contents(&frames(&[b"one", b"two"]), &[MAX_BYTES], MAX_BYTES);
    assert_eq!((read, end), (vec![b"one".to_vec(), b"two".to_vec()], Ok(())));
}

#[test]
fn a_frame_without_content_is_refused() {
    let (read, end) = contents(&[0; 8], &[8], MAX_BYTES);
    assert_eq!((read, end), (vec![], Err("the frame is empty".into())));
    assert!(matches!(encode(&[], MAX_BYTES), Err(FrameError::Empty)));
}

#[test]
fn a_frame_of_four_gigabytes_is_refused_by_its_header() {
    let (read, end) = contents(&[0xff; 64], &[64], MAX_BYTES);
    let words = "the frame has 4294967295 bytes; at most 65536 are allowed";
    assert_eq!((read, end), (vec![], Err(words.into())));
}

#[test]
fn the_largest_frame_is_allowed_and_no_larger_one() {
    let content = vec![1; MAX_BYTES];
    let (read, end) = contents(&frames(&[&content]), &[1000], MAX_BYTES);
    assert_eq!((read, end), (vec![content], Ok(())));
    let large = encode(&vec![1; MAX_BYTES + 1], MAX_BYTES);
    assert!(matches!(large, Err(FrameError::Large { bytes: 65537, limit: MAX_BYTES })));
    let mut header = 65537_u32.to_le_bytes().to_vec();
    header.push(1);
    assert!(contents(&header, &[5], MAX_BYTES).1.unwrap_err().contains("65537"));
}

#[test]
fn a_frame_that_is_cut_anywhere_is_told_from_the_end() {
    let frame = frames(&[br#"{"id":"1"}"#]);
    for cut in 1..frame.len() {
        for size in [1, frame.len()] {
            let (read, end) = contents(&frame[..cut], &[size], MAX_BYTES);
            let words = "the connection ended in the midst of a frame";
            assert_eq!((read, end), (vec![], Err(words.into())), "cut at {cut}");
        }
    }
    assert_eq!(contents(&[], &[1], MAX_BYTES), (vec![], Ok(())));
}

#[test]
fn a_frame_may_be_split_anywhere() {
    let content = br#"{"id":"1","action":"list-keys"}"#;
    let frame = frames(&[content]);
    for split in 1..frame.len() {
        let (read, end) = contents(&frame, &[split, frame.len()], MAX_BYTES);
        assert_eq!((read, end), (vec![content.to_vec()], Ok(())), "split at {split}");
    }
}

#[tokio::test]
async fn what_is_written_is_read() {
    let (mut here, mut there) = tokio::io::duplex(16);
    let content = [5; 1000];
    let (written, read) = tokio::join!(
        async { write(&mut here, &content, MAX_BYTES).await },
        read(&mut there, MAX_BYTES)
    );
    written.unwrap();
    assert_eq!(*read.unwrap().unwrap(), content);
    let mut blocking = Vec::new();
    write_blocking(&mut blocking, &content, MAX_BYTES).unwrap();
    assert_eq!(blocking, frames(&[&content]));
}

proptest! {
    #[test]
    fn chunks_change_nothing(
        sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..5),
        sizes in prop::collection::vec(1_usize..50, 1..10),
    ) {
        let slices: Vec<_> = sent.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(contents(&frames(&slices), &sizes, MAX_BYTES), (sent, Ok(())));
    }

    #[test]
    fn any_bytes_are_frames_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let (read, _) = contents(&bytes, &[3], 16);
        prop_assert!(read.iter().all(|content| (1..=16).contains(&content.len())));
    }
}
