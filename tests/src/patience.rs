//! How long to wait for what must happen, and how much to ask for.

use std::env;
use std::time::Duration;

/// The deadline of every wait: long after what is awaited has happened on a slow machine.
#[must_use]
pub fn patience() -> Duration {
    Duration::from_secs(if is_emulated() { 120 } else { 20 })
}

/// `count`, or less where everything is slow.
#[must_use]
pub fn scaled(count: usize) -> usize {
    if is_emulated() { count / 8 } else { count }
}

/// Whether this is a guest of tests/lab/vm, which emulates each instruction.
#[must_use]
pub fn is_emulated() -> bool {
    env::var_os("TUNNEL_LEG").is_some_and(|leg| leg == "vsock")
}
