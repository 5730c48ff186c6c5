//! Two network namespaces: the host's and the enclave's.

use std::fs::{self, File};
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use ipnet::IpNet;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};

/// Makes this process the host: root of a user namespace, with a network and mounts of its own in
/// which `networks` are local. The process must have one thread.
pub fn become_host(networks: &[IpNet]) {
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .expect("unprivileged user namespaces are allowed");
    write("/proc/self/setgroups", "deny");
    write("/proc/self/uid_map", &format!("0 {uid} 1"));
    write("/proc/self/gid_map", &format!("0 {gid} 1"));
    // What is mounted from here on is nobody else's.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .expect("mounts are private");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(inproxy::network::make_local(networks))
        .expect("the host's addresses are local");
}

/// Thousands of connections a second leave as many behind, each of which keeps its port for a
/// minute. In this thread's network they are used again after a second.
///
/// # Errors
///
/// The settings cannot be written.
pub fn reuse_ports() -> io::Result<()> {
    let settings = Path::new("/proc/sys/net/ipv4");
    fs::write(settings.join("ip_local_port_range"), "12000 65535")?;
    fs::write(settings.join("tcp_tw_reuse"), "1")
}

/// A place without network: only `lo`, which is down. Its /etc has nothing but a hosts file.
#[derive(Debug)]
pub struct Enclave {
    network: File,
    mounts: File,
}

impl Enclave {
    /// A new one, beside the host's.
    #[must_use]
    pub fn new() -> Self {
        in_thread(|| {
            let own = CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
            unshare(own).expect("namespaces of its own");
            mount(NONE, "/etc", Some("tmpfs"), MsFlags::empty(), NONE).expect("an empty /etc");
            write("/etc/hosts", "127.0.0.1 localhost\n");
            let open = |kind| File::open(Path::new("/proc/thread-self/ns").join(kind));
            Self {
                network: open("net").expect("its network namespace"),
                mounts: open("mnt").expect("its mount namespace"),
            }
        })
    }

    /// Calls `f` in the enclave. Sockets that it makes and processes that it starts stay there.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        in_thread(|| {
            unshare(CloneFlags::CLONE_FS).expect("a root directory of its own");
            setns(&self.network, CloneFlags::CLONE_NEWNET).expect("the enclave's network");
            setns(&self.mounts, CloneFlags::CLONE_NEWNS).expect("the enclave's mounts");
            f()
        })
    }

    /// Calls `f` with the enclave's network and the host's files, for programs that need some.
    pub fn run_in_network<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        in_thread(|| {
            setns(&self.network, CloneFlags::CLONE_NEWNET).expect("the enclave's network");
            f()
        })
    }
}

impl Default for Enclave {
    fn default() -> Self {
        Self::new()
    }
}

/// Namespaces are a thread's own, until it ends.
fn in_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(f).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

fn write(path: &str, content: &str) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{path}: {error}"));
}

const NONE: Option<&str> = None;
