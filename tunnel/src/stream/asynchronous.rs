//! Streams in the terms of tokio, for those who speak a protocol of their own over them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if room.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let n = ready!(self.get_mut().socket.poll_read(cx, room.initialize_unfilled()))?;
        room.advance(n);
        Poll::Ready(Ok(()))
    }
}

/// Nothing is held back, so there is nothing to flush. Shutting down is the half-close of
/// [`Stream::shutdown_write`].
impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn bytes_and_a_half_close_pass_through() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut here, mut there) =
            (Stream::try_from(here).unwrap(), Stream::try_from(there).unwrap());
        AsyncWriteExt::write_all(&mut here, b"question").await.unwrap();
        AsyncWriteExt::shutdown(&mut here).await.unwrap();
        let mut heard = String::new();
        there.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        AsyncWriteExt::write_all(&mut there, b"answer").await.unwrap();
        drop(there);
        heard.clear();
        here.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
    }
}
