//! Reading a head whose length nobody knows, with what follows it.

use std::io;
use std::task::{Context, Poll, ready};

use thiserror::Error;

use crate::buffer::Buffer;
use crate::stream::Stream;

/// Reads from a stream until a head is complete. While it waits it holds no more than what came.
#[derive(Debug, Default)]
pub struct HeadReader {
    partial: Vec<u8>,
}

impl HeadReader {
    /// Reads a head. `parse` gets all bytes so far, and answers what it made of them and how many
    /// were the head's; `None` asks for more. What came behind the head is returned with it.
    ///
    /// # Errors
    ///
    /// [`HeadError`]; there is no way to go on after one.
    pub fn poll<T, E>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Poll<Result<(T, Buffer), HeadError<E>>> {
        loop {
            let mut buffer = Buffer::take();
            buffer.put(&self.partial);
            if ready!(stream.poll_read(cx, &mut buffer)).map_err(HeadError::Stream)? == 0 {
                let cause = io::ErrorKind::UnexpectedEof.into();
                return Poll::Ready(Err(HeadError::Stream(cause)));
            }
            if let Some((value, length)) = parse(buffer.filled()).map_err(HeadError::Parse)? {
                buffer.consume(length);
                return Poll::Ready(Ok((value, buffer)));
            }
            self.partial = buffer.filled().to_vec();
        }
    }
}

/// Why there is no head.
#[derive(Debug, Error)]
pub enum HeadError<E> {
    /// The bytes make no sense.
    #[error(transparent)]
    Parse(E),
    /// The stream failed, or ended before the head did.
    #[error(transparent)]
    Stream(io::Error),
}
