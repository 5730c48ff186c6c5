//! What is measured, and where the processes are meanwhile.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use crate::load;

/// What `--only` chooses from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
pub(crate) enum Theme {
    /// Bytes per second, and what they cost.
    Bulk,
    /// Request and response.
    Rr,
    /// Connections per second.
    Conn,
    /// Tunnels that nobody uses.
    Idle,
}

/// One measurement.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Scenario {
    Upload { streams: usize },
    Download { streams: usize },
    RoundTrip { size: usize, connections: usize },
    Connect { at_once: usize },
    Idle { tunnels: usize },
}

impl Scenario {
    pub(crate) fn theme(self) -> Theme {
        match self {
            Self::Download { .. } | Self::Upload { .. } => Theme::Bulk,
            Self::RoundTrip { .. } => Theme::Rr,
            Self::Connect { .. } => Theme::Conn,
            Self::Idle { .. } => Theme::Idle,
        }
    }

    /// What the client does, for so long.
    pub(crate) fn load(self, limit: Duration) -> Arguments {
        let (kind, connections, size) = match self {
            Self::Connect { at_once } => (load::Kind::Connect, at_once, MESSAGE),
            Self::Download { streams } => (load::Kind::Download, streams, MESSAGE),
            Self::Idle { tunnels } => (load::Kind::Idle, tunnels, MESSAGE),
            Self::RoundTrip { size, connections } => (load::Kind::RoundTrip, connections, size),
            Self::Upload { streams } => (load::Kind::Upload, streams, MESSAGE),
        };
        Arguments { kind, connections, size, limit }
    }

    /// Whether the server has one connection only, after which there may be another.
    pub(crate) fn is_single(self) -> bool {
        match self {
            Self::Download { streams: n }
            | Self::RoundTrip { connections: n, .. }
            | Self::Upload { streams: n } => n == 1,
            Self::Connect { .. } | Self::Idle { .. } => false,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        match *self {
            Self::Connect { at_once: 1 } => f.write_str("connect, exchange, close, serial"),
            Self::Connect { at_once } => write!(f, "connect, exchange, close, {at_once} at once"),
            Self::Download { streams } => {
                write!(f, "bulk down, {streams} stream{}", plural(streams))
            }
            Self::Idle { tunnels } => write!(f, "{tunnels} idle tunnels"),
            Self::RoundTrip { size, connections } => {
                write!(f, "{size} B round trip, {connections} connection{}", plural(connections))
            }
            Self::Upload { streams } => write!(f, "bulk up, {streams} stream{}", plural(streams)),
        }
    }
}

/// What the client is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments {
    pub(crate) kind: load::Kind,
    pub(crate) connections: usize,
    pub(crate) size: usize,
    pub(crate) limit: Duration,
}

/// The cores on which the processes are; `None` is any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    /// Client and server.
    pub(crate) load: Option<usize>,
    /// Both relays.
    pub(crate) relays: Option<usize>,
}

impl Theme {
    /// Where the scenarios of a theme run. Bulk shows what the relays can do with a core of their
    /// own; round trips on one core show the length of their path and nothing else.
    pub(crate) fn placement(self) -> Placement {
        match self {
            Self::Bulk => Placement { load: Some(0), relays: Some(1) },
            Self::Conn | Self::Idle => Placement { load: None, relays: None },
            Self::Rr => Placement { load: Some(0), relays: Some(0) },
        }
    }
}

/// Natively.
pub(crate) const NATIVE: &[Scenario] = &[
    Scenario::Upload { streams: 1 },
    Scenario::Download { streams: 1 },
    Scenario::Upload { streams: 8 },
    Scenario::Download { streams: 8 },
    Scenario::Upload { streams: 64 },
    Scenario::Download { streams: 64 },
    Scenario::RoundTrip { size: 256, connections: 1 },
    Scenario::RoundTrip { size: 4096, connections: 1 },
    Scenario::RoundTrip { size: 256, connections: 64 },
    Scenario::RoundTrip { size: 4096, connections: 64 },
    Scenario::Connect { at_once: 1 },
    Scenario::Connect { at_once: 32 },
    Scenario::Idle { tunnels: 1000 },
    Scenario::Idle { tunnels: 9000 },
];

/// In the guest, which is slow.
pub(crate) const EMULATED: &[Scenario] = &[
    Scenario::Upload { streams: 1 },
    Scenario::Download { streams: 1 },
    Scenario::Upload { streams: 8 },
    Scenario::Download { streams: 8 },
    Scenario::RoundTrip { size: 256, connections: 1 },
    Scenario::Connect { at_once: 1 },
    Scenario::Connect { at_once: 32 },
    Scenario::Idle { tunnels: 4000 },
];

/// So many tunnels are beyond a relay with a process for each.
pub(crate) const MOST_PROCESSES: usize = 1000;

/// Bytes of a message where its size does not matter.
const MESSAGE: usize = 256;
