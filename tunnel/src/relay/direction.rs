//! One direction of a relay.

use std::io;
use std::task::{Context, Poll, ready};

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
    stalled: bool,
    moved: u64,
    overhead: u64,
}

/// What the receiver is still to get.
#[derive(Debug)]
enum Waiting {
    Buffer(Buffer),
    Pipe(Pipe),
}

#[derive(Debug, Default)]
enum State {
    /// The receiver takes nothing any more.
    Broken(Option<io::Error>),
    /// The end of the stream was delivered.
    Done,
    /// The sender is done; what waits is still to be delivered, and then the end of the stream.
    Ended,
    /// Bytes may come.
    #[default]
    Open,
}

impl Direction {
    /// Delivers `first`, of which `overhead` bytes are not counted, before anything is read.
    pub(super) fn put_first(&mut self, first: Buffer, overhead: usize) {
        self.overhead += overhead as u64;
        self.waiting = (!first.is_empty()).then_some(Waiting::Buffer(first));
    }

    /// Bytes that the receiver took.
    pub(super) fn bytes(&self) -> u64 {
        self.moved.saturating_sub(self.overhead)
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
        matches!(self.state, State::Ended | State::Done)
    }

    /// Whether the receiver was told of the end of the stream.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Why the receiver takes nothing any more, if that is so.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        match &mut self.state {
            State::Broken(error) => error.take(),
            State::Done | State::Ended | State::Open => None,
        }
    }

    /// Moves what can be moved. Ready when this direction is over, and ever after; an error is the
    /// sender's. `reverse` is the direction that brings bytes to the sender, and `tunnel` tells
    /// more of a sender that is the other proxy.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        reverse: &Self,
        tunnel: Option<&Tunnel>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
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
            if let State::Ended = self.state {
                // The kernel does not tell a sender that has half-closed from one that was killed,
                // once it was told of an end itself.
                if let Some(tunnel) = tunnel
                    && reverse.is_done()
                {
                    ready!(tunnel.poll_alive());
                }
                // Afterwards its full close would pass for the end of the other direction.
                if !reverse.has_ended() && to.was_aborted() {
                    self.state = State::Broken(Some(io::ErrorKind::ConnectionAborted.into()));
                    continue;
                }
                self.state = match to.shutdown_write() {
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
        if self.pipes > 0
            && let Some(mut pipe) = Pipe::take()
        {
            let n = ready!(from.poll_fill(cx, &mut pipe))?;
            self.pipes = if n >= BULK { PIPES } else { self.pipes - 1 };
            self.spliced = true;
            self.waiting = (n > 0).then_some(Waiting::Pipe(pipe));
            return Poll::Ready(Ok(n));
        }
        let mut buffer = Buffer::take();
        let n = ready!(from.poll_read(cx, &mut buffer))?;
        self.pipes = if n >= BULK && from.can_splice(to) { PIPES } else { 0 };
        self.waiting = (n > 0).then_some(Waiting::Buffer(buffer));
        Poll::Ready(Ok(n))
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
            State::Ended | State::Open => receiver.was_aborted(),
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
