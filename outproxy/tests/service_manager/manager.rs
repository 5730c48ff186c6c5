//! What systemd is to outproxy, and no more: a socket for notifications, a store of descriptors,
//! and the environment of a service.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

/// Long enough for any machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Manager {
    directory: TempDir,
    notifications: UnixDatagram,
    /// The descriptors that are kept, with their names.
    pub(crate) store: Vec<(String, OwnedFd)>,
    /// Without it what comes is closed.
    pub(crate) has_store: bool,
    lines: VecDeque<String>,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let notifications = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        notifications.set_read_timeout(Some(PATIENCE)).unwrap();
        let (store, lines) = (Vec::new(), VecDeque::new());
        Self { directory, notifications, store, has_store: true, lines }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration, in which `DIR` stands for the place of all sockets.
    pub(crate) fn configure(&self, text: &str) {
        let text = text.replace("DIR", self.directory.path().to_str().unwrap());
        fs::write(self.path("outproxy.toml"), text).unwrap();
    }

    /// Starts outproxy with what is in the store, and waits until it is ready.
    pub(crate) fn start(&mut self) -> Service {
        self.start_with(&[])
    }

    /// As [`Self::start`], with some more of the environment.
    pub(crate) fn start_with(&mut self, environment: &[(&str, &str)]) -> Service {
        let names: Vec<_> = self.store.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new("sh");
        command
            .args(["-c", "export LISTEN_PID=${LISTEN_PID-$$}; exec \"$@\"", "sh"])
            .args([env!("CARGO_BIN_EXE_outproxy"), "--config"])
            .arg(self.path("outproxy.toml"))
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        let mappings = self.store.iter().zip(3..).map(|((_, descriptor), child_fd)| {
            let parent_fd = descriptor.try_clone().unwrap();
            FdMapping { parent_fd, child_fd }
        });
        command.fd_mappings(mappings.collect()).unwrap();
        let service = Service(command.spawn().unwrap());
        self.await_line("READY=1");
        service
    }

    /// Has outproxy read its configuration again, and waits until it has.
    pub(crate) fn reload(&mut self, service: &Service) {
        service.signal(Signal::SIGHUP);
        self.await_line("RELOADING=1");
        self.await_line("READY=1");
    }

    /// Stops outproxy, and hands what it has stored to another one.
    pub(crate) fn restart(&mut self, service: Service) -> Service {
        service.signal(Signal::SIGTERM);
        assert!(service.wait().success());
        self.receive_all();
        self.start()
    }

    /// Waits until outproxy says something, and keeps what it sends meanwhile.
    pub(crate) fn await_line(&mut self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            while let Some(next) = self.lines.pop_front() {
                if next == line {
                    return;
                }
            }
            self.receive().unwrap_or_else(|error| panic!("no `{line}`: {error}"));
        }
        panic!("no `{line}`");
    }

    /// Whether outproxy says something within `limit`.
    pub(crate) fn hears(&mut self, line: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            while let Some(next) = self.lines.pop_front() {
                if next == line {
                    return true;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.notifications.set_read_timeout(Some(left)).unwrap();
            let _ = self.receive();
            self.notifications.set_read_timeout(Some(PATIENCE)).unwrap();
        }
    }

    /// Takes what was sent, and forgets what was said.
    pub(crate) fn receive_all(&mut self) {
        self.notifications.set_nonblocking(true).unwrap();
        while self.receive().is_ok() {}
        self.notifications.set_nonblocking(false).unwrap();
        self.lines.clear();
    }

    /// The names in the store, in their order.
    pub(crate) fn stored(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.store.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// What an endpoint of [`Self::path`] is called.
    pub(crate) fn unix(&self, name: &str) -> String {
        format!("unix,{}", self.path(name).display())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = recvmsg(&self.notifications, &mut parts, &mut ancillary, flags)?.bytes;
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<_> = descriptors.flatten().collect();
        let message = std::str::from_utf8(&bytes[..length]).unwrap();
        let lines: Vec<_> = message.lines().map(String::from).collect();
        let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME="));
        if lines.contains(&"FDSTORE=1".into()) && self.has_store {
            let [descriptor] = descriptors.try_into().unwrap();
            self.keep(name.unwrap(), descriptor);
        }
        if lines.contains(&"FDSTOREREMOVE=1".into()) {
            self.store.retain(|(stored, _)| Some(stored.as_str()) != name);
        }
        self.lines.extend(lines);
        Ok(())
    }

    fn keep(&mut self, name: &str, descriptor: OwnedFd) {
        // Such as systemd's `fdname_is_valid`.
        assert!(name.len() <= 255 && name.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        assert!(!name.contains(':'), "{name}");
        let inode = |descriptor: &OwnedFd| rustix::fs::fstat(descriptor.as_fd()).unwrap().st_ino;
        assert!(self.store.iter().all(|(_, stored)| inode(stored) != inode(&descriptor)), "{name}");
        self.store.push((name.into(), descriptor));
    }
}

/// An outproxy that serves. It is killed with this value.
pub(crate) struct Service(Child);

impl Service {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    pub(crate) fn has_open(&self, path: &Path) -> bool {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap();
        let mut targets =
            descriptors.filter_map(|descriptor| descriptor.unwrap().path().read_link().ok());
        targets.any(|target| target == path)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
