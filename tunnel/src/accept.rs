//! The accept loop: it never dies of a passing error, and never spins on a lasting one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::libc;
use tokio::time::sleep;

use crate::listener::{Listener, Peer};
use crate::stream::Stream;

/// Accepts connections for ever and hands each to `handle`, which must not block.
///
/// Drop the future to stop accepting; connections that the kernel has queued are reset then.
pub async fn accept(listener: &Listener, mut handle: impl FnMut(Stream, Peer)) -> ! {
    let mut pause = SHORTEST_PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                pause = SHORTEST_PAUSE;
                handle(stream, peer);
            }
            Err(error) if concerns_one_connection(&error) => {
                tracing::debug!(listener = %listener.endpoint(), %error, "connection gone before it was accepted");
            }
            Err(error) => {
                // The connection stays queued and the listener readable: without a pause this
                // loop would take a core until a descriptor is free.
                metrics::counter!(crate::metrics::ACCEPT_ERRORS).increment(1);
                ERRORS.fetch_add(1, Ordering::Relaxed);
                if pause == SHORTEST_PAUSE {
                    tracing::error!(listener = %listener.endpoint(), %error, "failed to accept; will try again");
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// How often accept(2) has failed in this process for want of something, and was tried again.
#[must_use]
pub fn errors() -> u64 {
    ERRORS.load(Ordering::Relaxed)
}

/// Whether the next accept(2) may succeed at once. Linux also reports what went wrong with the
/// connection that it would have returned; see accept(2).
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::EINTR
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPERM
                | libc::EPROTO
        )
    )
}

static ERRORS: AtomicU64 = AtomicU64::new(0);

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
