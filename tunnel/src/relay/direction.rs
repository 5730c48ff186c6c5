//! One direction of a relay.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::buffer::Buffer;
use crate::notices::Tunnel;
use crate::pipe::{self, Pipe};
use crate::stream::Stream;

/// Copies one way. It holds a buffer or a pipe only while the receiver is slower than the sender.
#[derive(Debug, Default)]
pub(super) struct Direction {
    waiting: Option<Waiting>,
    state: State,
    /// For how many reads more to use a pipe, unless one of them is large again.
    pipes: u8,
    spliced: bool,
    /// Of what the receiver gets first so many bytes are not counted; no more than a head has.
    overhead: u32,
    /// Until when what waits is held back, unless more comes.
    held: Option<Pin<Box<Sleep>>>,
    stalled: bool,
    moved: u64,
}

/// What the receiver is still to get.
#[derive(Debug)]
enum Waiting {
    Buffer(Buffer),
    Pipe(Pipe),
}

/// Where the other proxy is, and what it says beside the stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum TunnelAt<'a> {
    Receiver(&'a Tunnel),
    Sender(&'a Tunnel),
}

#[derive(Debug, Default)]
enum State {
    /// The receiver takes nothing any more.
    Broken(Option<io::Error>),
    /// The end of the stream was delivered.
    Done,
    /// The sender is done; what waits is still to be delivered, and then the end of the stream.
    Ended,
    /// Besides, the receiver was told that the end is a clean one.
    Announced,
    /// The sender has failed while something was held back, which is still to be delivered.
    Failed(Option<io::Error>),
    /// Bytes may come.
    #[default]
    Open,
}

impl Direction {
    /// Delivers `first`, of which `overhead` bytes are not counted, before anything is read.
    pub(super) fn put_first(&mut self, first: Buffer, overhead: usize) {
        self.overhead += u32::try_from(overhead).unwrap_or(u32::MAX);
        self.waiting = (!first.is_empty()).then_some(Waiting::Buffer(first));
    }

    /// Delivers what was put first together with what the sender says, or after `limit`.
    pub(super) fn hold(&mut self, limit: Duration) {
        self.held = self.waiting.is_some().then(|| Box::pin(sleep(limit)));
    }

    /// Bytes that the receiver took.
    pub(super) fn bytes(&self) -> u64 {
        self.moved.saturating_sub(self.overhead.into())
    }

    /// A number that changes whenever something moves.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether the receiver is still to get something that was read.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether nothing more will move.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Broken(_))
    }

    /// Whether the sender's end of the stream was read.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Announced | State::Ended | State::Done)
    }

    /// Whether the receiver was told of the end of the stream.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Why the receiver takes nothing any more, if that is so.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        match &mut self.state {
            State::Broken(error) => error.take(),
            State::Announced | State::Done | State::Ended | State::Failed(_) | State::Open => None,
        }
    }

    /// Moves what can be moved. Ready when this direction is over, and ever after; an error is the
    /// sender's. `reverse` is the direction that brings bytes to the sender, and `tunnel` leads to
    /// the other proxy.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        reverse: &Self,
        tunnel: Option<TunnelAt<'_>>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_held(cx, from));
            let Poll::Ready(delivered) = self.poll_deliver(cx, to) else {
                if !self.stalled {
                    self.stalled = true;
                    from.brace_for_stall();
                }
                return Poll::Pending;
            };
            if let Err(error) = delivered {
                self.waiting = None;
                self.state = State::Broken(Some(error));
                continue;
            }
            if let State::Announced | State::Ended = self.state {
                // The kernel does not tell a peer that has half-closed from one that was killed,
                // once it was told of an end itself.
                match tunnel {
                    Some(TunnelAt::Sender(tunnel)) if reverse.is_done() => {
                        ready!(tunnel.poll_alive());
                    }
                    Some(TunnelAt::Receiver(tunnel))
                        if reverse.has_ended()
                            && matches!(self.state, State::Ended)
                            && tunnel.notify_ended() =>
                    {
                        // The word is to be there before the end is, or the receiver would ask.
                        self.state = State::Announced;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Some(_) | None => {}
                }
                // Afterwards its full close would pass for the end of the other direction.
                if !reverse.has_ended() && to.was_aborted() {
                    self.state = State::Broken(Some(io::ErrorKind::ConnectionAborted.into()));
                    continue;
                }
                // The last end comes with the close.
                let shut_down = if reverse.is_done() && to.closes_as_it_ends() {
                    Ok(())
                } else {
                    to.shutdown_write()
                };
                self.state = match shut_down {
                    Ok(()) => State::Done,
                    Err(error) => State::Broken(Some(error)),
                };
                continue;
            }
            match ready!(self.poll_take(cx, from, to))? {
                0 if reverse.proves_abort(from) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                0 => self.state = State::Ended,
                _ => {}
            }
        }
    }

    /// Takes what the sender has, and says how much; 0 is the end of the stream.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &Stream,
    ) -> Poll<io::Result<usize>> {
        if let State::Failed(error) = &mut self.state
            && let Some(error) = error.take()
        {
            return Poll::Ready(Err(error));
        }
        if self.pipes > 0
            && let Some(mut pipe) = Pipe::take()
        {
            // Even if nothing comes: it goes back to the pool.
            self.spliced = true;
            let n = ready!(from.poll_fill(cx, &mut pipe))?;
            self.pipes = if n >= BULK { PIPES } else { self.pipes - 1 };
            self.waiting = (n > 0).then_some(Waiting::Pipe(pipe));
            return Poll::Ready(Ok(n));
        }
        let buffer = ready!(from.poll_read_buffer(cx))?;
        let n = buffer.filled().len();
        self.pipes = if n >= BULK && from.can_splice(to) { PIPES } else { 0 };
        self.waiting = (n > 0).then_some(Waiting::Buffer(buffer));
        Poll::Ready(Ok(n))
    }

    /// Ready once nothing is held back.
    fn poll_held(&mut self, cx: &mut Context<'_>, from: &mut Stream) -> Poll<()> {
        if let (Some(limit), Some(Waiting::Buffer(held))) = (&mut self.held, &mut self.waiting) {
            let mut buffer = Buffer::take();
            buffer.put(held.filled());
            match from.poll_read(cx, &mut buffer) {
                // If this is the end of the stream, it will be read again.
                Poll::Ready(Ok(_)) => *held = buffer,
                // That will not: the kernel tells an error once.
                Poll::Ready(Err(error)) => self.state = State::Failed(Some(error)),
                Poll::Pending => ready!(limit.as_mut().poll(cx)),
            }
        }
        self.held = None;
        Poll::Ready(())
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while let Some(waiting) = &mut self.waiting {
            let (n, is_delivered) = match waiting {
                Waiting::Buffer(buffer) => {
                    let n = ready!(to.poll_write(cx, buffer.filled()))?;
                    buffer.consume(n);
                    (n, buffer.is_empty())
                }
                Waiting::Pipe(pipe) => (ready!(to.poll_drain(cx, pipe))?, pipe.held() == 0),
            };
            self.moved += n as u64;
            if is_delivered {
                self.waiting = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the end of the stream that was read from `receiver` is no clean one.
    fn proves_abort(&self, receiver: &Stream) -> bool {
        match self.state {
            // A write took the error away that the read would have reported.
            State::Broken(_) => true,
            // A peer that was told of the end may close both ways.
            State::Done => false,
            State::Announced | State::Ended | State::Failed(_) | State::Open => {
                receiver.was_aborted()
            }
        }
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        if self.spliced {
            // Whoever still needs one makes another: what is in bulk pays for that.
            pipe::close_idle();
        }
    }
}

/// From so many bytes at once a pipe is cheaper than a buffer; below, its two calls cost more than
/// the copy.
const BULK: usize = 32 * 1024;

/// What comes in bulk comes in pieces of all sizes: one small piece is no end of it.
const PIPES: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_pipe_that_nothing_came_through_is_closed_with_its_tunnel() {
        let [(mut sender, from), (to, _receiver)] = [(); 2].map(|()| UnixStream::pair().unwrap());
        sender.write_all(&[7; BULK]).await.unwrap();
        let [mut from, mut to] = [from, to].map(|socket| Stream::try_from(socket).unwrap());
        let (mut direction, reverse) = (Direction::default(), Direction::default());
        // Once the bulk is delivered it waits for more.
        poll_fn(|cx| {
            let moved = direction.poll(cx, &mut from, &mut to, &reverse, None);
            assert!(moved.is_pending());
            if direction.moved() < BULK as u64 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        assert_eq!(pipe::pooled(), 1);
        drop(direction);
        assert_eq!(pipe::pooled(), 0);
    }

    #[tokio::test]
    async fn nobody_takes_a_buffer_before_there_is_something_to_read() {
        let [(mut sender, from), (to, _receiver)] = [(); 2].map(|()| UnixStream::pair().unwrap());
        let [mut from, mut to] = [from, to].map(|socket| Stream::try_from(socket).unwrap());
        let (mut direction, reverse) = (Direction::default(), Direction::default());
        poll_fn(|cx| {
            assert!(direction.poll(cx, &mut from, &mut to, &reverse, None).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(buffer::pooled(), 0);
        sender.write_all(b"something").await.unwrap();
        poll_fn(|cx| {
            assert!(direction.poll(cx, &mut from, &mut to, &reverse, None).is_pending());
            if direction.moved() == 0 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        assert_eq!(buffer::pooled(), 1);
    }

    #[tokio::test]
    async fn what_is_not_counted_moves_all_the_same() {
        let [(_sender, from), (to, _receiver)] = [(); 2].map(|()| UnixStream::pair().unwrap());
        let [mut from, mut to] = [from, to].map(|socket| Stream::try_from(socket).unwrap());
        let (mut direction, reverse) = (Direction::default(), Direction::default());
        direction.put_first(Buffer::holding(b"granted"), 7);
        poll_fn(|cx| {
            assert!(direction.poll(cx, &mut from, &mut to, &reverse, None).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!((direction.moved(), direction.bytes()), (7, 0));
    }
}
