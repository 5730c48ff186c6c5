//! Payload bytes, counted as they are delivered.

use metrics::Counter;

/// Counts the bytes of some tunnels, such as all those of a rule.
#[derive(Clone, Debug)]
pub struct Traffic {
    sent: Counter,
    received: Counter,
}

impl Traffic {
    /// Counts in these two, as seen from the client.
    #[must_use]
    pub const fn new(sent: Counter, received: Counter) -> Self {
        Self { sent, received }
    }

    /// So many bytes more were delivered.
    pub(crate) fn add(&self, sent: u64, received: u64) {
        // Mostly only one of the two has moved.
        if sent > 0 {
            self.sent.increment(sent);
        }
        if received > 0 {
            self.received.increment(received);
        }
    }
}
