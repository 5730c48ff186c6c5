//! The way back to the parent.

use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use protocol::answer::Code;
use protocol::frame;
use zeroize::Zeroizing;

use crate::wire::{self, Effect, Fault, Reply};

use super::fault::Trouble;

/// Writes one reply at a time.
pub(super) struct Replies(Mutex<UnixStream>);

impl Replies {
    pub(super) const fn new(socket: UnixStream) -> Self {
        Self(Mutex::new(socket))
    }

    pub(super) fn send(&self, number: u64, result: Result<Effect, Fault>) {
        let content = encode(&Reply { number, result }).unwrap_or_else(|| {
            let trouble = Trouble::refused(Code::TooLarge, "the answer is too large");
            encode(&Reply { number, result: Err(trouble.into()) }).unwrap_or_default()
        });
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frame::write_blocking(&mut *socket, &content, wire::MAX_FRAME).is_err() {
            // Nobody listens any more.
            super::stop_reading(&socket);
        }
    }

    /// No more calls are wanted.
    pub(super) fn stop_calls(&self) {
        super::stop_reading(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn encode(reply: &Reply) -> Option<Zeroizing<Vec<u8>>> {
    // As large as it may become: a vector that grows leaves copies behind that nobody wipes.
    let mut content = Zeroizing::new(Vec::with_capacity(wire::MAX_FRAME));
    serde_json::to_writer(&mut *content, reply).ok()?;
    (content.len() <= wire::MAX_FRAME).then_some(content)
}
