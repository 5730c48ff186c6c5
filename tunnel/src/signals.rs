//! The signals that an operator sends; see signal(7).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that were sent to this process since [`Signals::install`].
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM, or SIGINT from a terminal: shut down; the second time, at once.
    Stop,
}

impl Signals {
    /// Takes over the signals. Call it before binding anything, so that none is lost.
    ///
    /// # Errors
    ///
    /// What sigaction(2) answers.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next wish.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.terminate.recv() => Wish::Stop,
        }
    }

    /// Waits until the operator wants it to stop; reloads come too late now.
    pub async fn stop(&mut self) {
        while self.next().await != Wish::Stop {}
    }
}
