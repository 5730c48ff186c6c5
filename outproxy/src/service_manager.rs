//! What systemd, or whoever else has started this process, is told of it; see sd_notify(3).

use std::fmt::{Display, Write};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;
use tokio::io::Interest;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::time::timeout;

/// A service manager, if there is one.
///
/// `sd_notify` has the words, but would stop every tunnel as long as systemd takes nothing.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    socket: Option<Arc<Path>>,
}

impl ServiceManager {
    /// The one that `NOTIFY_SOCKET` names.
    #[must_use]
    pub fn from_env() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        Self { socket: socket.map(|path| Path::new(&path).into()) }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// Tells it how this process is, within [`PATIENCE`].
    pub async fn tell(&self, states: &[NotifyState<'_>]) {
        self.send_or_warn(states, None).await;
    }

    /// As [`Self::tell`], for what is soon told again.
    ///
    /// # Errors
    ///
    /// What sendmsg(2) answers, or that nobody takes the message.
    pub async fn try_tell(&self, state: NotifyState<'_>) -> io::Result<()> {
        self.send(&[state], None).await
    }

    /// Has it keep a descriptor for the next process, under a name; says whether it was sent.
    pub(crate) async fn store(&self, name: &str, descriptor: BorrowedFd<'_>) -> bool {
        let name = format!("FDNAME={name}");
        let states = ["FDSTORE=1", &name].map(NotifyState::Custom);
        self.is_there() && self.send_or_warn(&states, Some(descriptor)).await
    }

    /// Has it close the descriptors that it keeps under these names; returns when it has.
    pub(crate) async fn remove(&self, names: &[impl AsRef<str>]) {
        for name in names {
            let name = format!("FDNAME={}", name.as_ref());
            self.tell(&["FDSTOREREMOVE=1", &name].map(NotifyState::Custom)).await;
        }
        if !names.is_empty() {
            self.await_reader().await;
        }
    }

    /// Waits until what was told so far is understood; see sd_notify_barrier(3).
    async fn await_reader(&self) {
        let Ok((barrier, reader)) = UnixStream::pair() else { return };
        let state = NotifyState::Custom("BARRIER=1");
        if self.is_there() && self.send_or_warn(&[state], Some(reader.as_fd())).await {
            drop(reader);
            // It closes its copy, or leaves it unread.
            let _ = timeout(PATIENCE, barrier.readable()).await;
        }
    }

    async fn send_or_warn(
        &self,
        states: &[NotifyState<'_>],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> bool {
        let sent = self.send(states, descriptor).await;
        if let Err(error) = &sent {
            tracing::warn!(%error, "failed to notify the service manager");
        }
        sent.is_ok()
    }

    async fn send(
        &self,
        states: &[impl Display],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let Some(path) = &self.socket else { return Ok(()) };
        let mut message = String::new();
        for state in states {
            let _ = writeln!(message, "{state}");
        }
        // Connected anew each time: a manager that is started again has another socket.
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        let sending = socket.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = descriptor.as_slice();
            if !descriptors.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let message = [IoSlice::new(message.as_bytes())];
            sendmsg(&socket, &message, &mut ancillary, SendFlags::NOSIGNAL)?;
            Ok(())
        });
        timeout(PATIENCE, sending).await?
    }
}

/// How long a message may wait for a service manager that is busy.
pub const PATIENCE: Duration = Duration::from_secs(5);
