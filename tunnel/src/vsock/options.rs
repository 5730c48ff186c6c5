//! Options of AF_VSOCK sockets that no library has; see vsock(7).

use nix::libc;
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

// linux/vm_sockets.h; the level of these options is the address family.
const SO_VM_SOCKETS_BUFFER_SIZE: libc::c_int = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE: libc::c_int = 2;
const SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD: libc::c_int = 6;

sockopt_impl!(
    /// The receive window.
    BufferSize,
    Both,
    libc::AF_VSOCK,
    SO_VM_SOCKETS_BUFFER_SIZE,
    u64
);
sockopt_impl!(
    /// What the receive window may be at the most.
    BufferMaxSize,
    Both,
    libc::AF_VSOCK,
    SO_VM_SOCKETS_BUFFER_MAX_SIZE,
    u64
);
sockopt_impl!(
    /// How long connect(2) waits; 2 s unless set.
    ConnectTimeout,
    Both,
    libc::AF_VSOCK,
    SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD,
    libc::timeval
);
