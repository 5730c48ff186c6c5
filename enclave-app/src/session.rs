//! One connection: requests and answers in turn, until either end has enough.

use std::sync::Arc;
use std::time::Duration;

use protocol::answer::{Code, Failure};
use protocol::frame::{self, FrameError};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tunnel::listener::Peer;
use tunnel::stream::Stream;
use zeroize::Zeroizing;

use crate::config::Limits;
use crate::service::{Reply, Service};

/// A connection that is being served.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Stream,
    pub(crate) peer: Peer,
    pub(crate) service: Arc<Service>,
    pub(crate) limits: Arc<Limits>,
    /// Whether the application shuts down: then nobody waits for a further request.
    pub(crate) leaving: watch::Receiver<bool>,
}

impl Session {
    /// Serves the client to its end.
    pub(crate) async fn run(mut self) {
        let mut answered = 0_u64;
        loop {
            let content = match self.next(answered > 0).await {
                Ok(Some(content)) => content,
                Ok(None) => return self.client.hang_up(&[], HANG_UP_TIMEOUT).await,
                Err(error) => return self.refuse(&error).await,
            };
            // Boxed, so that what an action needs is not a part of every idle connection.
            let reply = Box::pin(self.service.answer(self.peer, content)).await;
            if reply.is_last {
                return self.client.hang_up(&reply.frame, self.limits.body_timeout).await;
            }
            if let Err(error) = self.send(&reply).await {
                return self.service.journal().lost(self.peer, &error);
            }
            answered += 1;
        }
    }

    /// The content of the next frame; nothing where the connection ends between frames.
    async fn next(&mut self, was_answered: bool) -> Result<Option<Zeroizing<Vec<u8>>>, Broken> {
        let limit = self.limits.header_timeout;
        let deadline = Instant::now() + limit;
        let mut header = [0; frame::HEADER_BYTES];
        let (first, rest) = header.split_at_mut(1);
        let begun = tokio::select! {
            // What has arrived already is served.
            biased;
            begun = timeout_at(deadline, self.client.read(first)) => begun,
            // If it fails, the server is gone.
            _ = self.leaving.wait_for(|leaving| *leaving) => return Ok(None),
        };
        match begun {
            Ok(Ok(0)) => return Ok(None),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(FrameError::from(error).into()),
            // It may have nothing more to ask, and would take an error for its next answer.
            Err(_) if was_answered => return Ok(None),
            Err(_) => return Err(Broken::Silent(limit)),
        }
        match timeout_at(deadline, self.client.read_exact(rest)).await {
            Ok(read) => read.map_err(FrameError::from)?,
            Err(_) => return Err(Broken::Slow(limit)),
        };
        let length = frame::length(header, frame::MAX_BYTES)?;
        let limit = self.limits.body_timeout;
        match timeout(limit, frame::read_content(&mut self.client, length)).await {
            Ok(content) => Ok(Some(content?)),
            Err(_) => Err(Broken::Slow(limit)),
        }
    }

    async fn send(&mut self, reply: &Reply) -> Result<(), Broken> {
        match timeout(self.limits.body_timeout, self.client.write_all(&reply.frame)).await {
            Ok(sent) => Ok(sent.map_err(FrameError::from)?),
            Err(_) => Err(Broken::Unread(self.limits.body_timeout)),
        }
    }

    /// Says what was wrong, as far as the client can still hear it. What follows of the stream
    /// cannot be told apart any more.
    async fn refuse(self, error: &Broken) {
        match error.failure() {
            Some(failure) => {
                let reply = self.service.refuse(self.peer, failure);
                self.client.hang_up(&reply.frame, HANG_UP_TIMEOUT).await;
            }
            None => self.service.journal().lost(self.peer, error),
        }
    }
}

/// Why a connection cannot go on.
#[derive(Debug, Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("no request came within `{0:?}`")]
    Silent(Duration),
    #[error("the request stopped for `{0:?}` before its end")]
    Slow(Duration),
    #[error("the answer was not taken within `{0:?}`")]
    Unread(Duration),
}

impl Broken {
    /// What the client is told; nothing if it cannot hear.
    fn failure(&self) -> Option<Failure> {
        let code = match self {
            Self::Frame(FrameError::Io(_)) | Self::Unread(_) => return None,
            Self::Frame(FrameError::Large { .. }) => Code::TooLarge,
            Self::Frame(_) => Code::InvalidRequest,
            Self::Silent(_) | Self::Slow(_) => Code::TimedOut,
        };
        Some(Failure::new(code, self.to_string()))
    }
}

/// How long a client may take to read why it was refused.
const HANG_UP_TIMEOUT: Duration = Duration::from_secs(1);
