//! Whether clients wait at listeners that this process has closed and another one keeps.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::listener::Listener;
use crate::watch::watch;

/// Watches listeners without keeping them open.
///
/// epoll(7) forgets a socket once *all* its descriptors are closed, also those of other processes.
/// So what is watched here and closed by this process is watched as long as somebody else keeps
/// it, and its endpoint is free at once if nobody does. There is no other way to know whether a
/// service manager has kept what it was given.
#[derive(Debug)]
pub struct Backlog(AsyncFd<OwnedFd>);

impl Backlog {
    /// Watches `listeners`, which may be closed then.
    ///
    /// # Errors
    ///
    /// What epoll_create(2) and epoll_ctl(2) answer.
    pub fn watch<'a>(listeners: impl IntoIterator<Item = &'a Listener>) -> io::Result<Self> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for listener in listeners {
            let nothing = epoll::EventData::new_u64(0);
            epoll::add(&queue, listener.as_fd(), nothing, epoll::EventFlags::IN)?;
        }
        Ok(Self(watch(queue, Interest::READABLE)?))
    }

    /// Waits until a client waits; for ever, if nobody keeps the listeners.
    ///
    /// # Errors
    ///
    /// What epoll_wait(2) answers.
    pub async fn is_waited_for(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            // It may have been that of a listener which nobody keeps.
            let mut events = Vec::with_capacity(1);
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), Some(&now))?;
            if !events.is_empty() {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn listen(path: &Path) -> Listener {
        Listener::bind(&format!("unix:{}", path.display()).parse().unwrap()).unwrap()
    }

    async fn is_waited_for(backlog: &Backlog) -> bool {
        timeout(Duration::from_millis(50), backlog.is_waited_for()).await.is_ok()
    }

    #[tokio::test]
    async fn clients_of_a_listener_that_is_kept_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let paths = [directory.path().join("one"), directory.path().join("other")];
        let listeners = paths.each_ref().map(|path| listen(path));
        listeners.iter().for_each(Listener::keep_name);
        let kept = listeners[1].as_fd().try_clone_to_owned().unwrap();
        let backlog = Backlog::watch(&listeners).unwrap();
        drop(listeners);
        assert!(!is_waited_for(&backlog).await);
        assert!(UnixStream::connect(&paths[0]).is_err(), "it is still open");
        let client = UnixStream::connect(&paths[1]).unwrap();
        assert!(is_waited_for(&backlog).await);
        drop((client, kept));
        assert!(!is_waited_for(&backlog).await);
    }
}
