//! What the inproxies tell of themselves and of their applications: an enclave has no console.
//!
//! Whoever tells it may be hostile. So there is one connection for each CID, few CIDs are
//! remembered, each with few lines, every word that becomes a label is one that is known here, and
//! whoever tells too much is read no faster than that costs nothing.

mod connection;
mod enclave;
mod exposition;
mod forward;
mod journald;
mod lines;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::Notify;
use tunnel::endpoint::Cid;
use tunnel::host::Clamped;

pub use self::connection::{Connection, serve};
pub use self::enclave::{ApplicationStatus, EnclaveStatus, LinesStatus};
pub use self::exposition::sample;
pub use self::forward::{HostLog, forward};
pub use self::journald::Journald;
pub use self::lines::LoggedLine;

use self::enclave::Enclave;
use self::lines::Told;

/// All enclaves that have told something, whether or not they are connected.
#[derive(Debug, Default)]
pub struct Enclaves {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<EnclaveId, Enclave>,
    /// How many lines there have been, of all enclaves: their order.
    lines: u64,
    /// How many connections there have been.
    connections: u64,
}

/// An enclave, by what the kernel says of it. All clients without CID are one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EnclaveId(pub Option<Cid>);

impl fmt::Display for EnclaveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(cid) => cid.fmt(f),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for EnclaveId {
    type Err = EnclaveIdError;

    fn from_str(text: &str) -> Result<Self, EnclaveIdError> {
        match text {
            "-" => Ok(Self(None)),
            _ => match text.parse() {
                Ok(cid) if cid != Cid::ANY => Ok(Self(Some(cid))),
                _ => Err(EnclaveIdError(text.into())),
            },
        }
    }
}

/// A text that names no enclave.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{0}` is not a CID; write a number, or `-` for clients that have none")]
pub struct EnclaveIdError(Clamped);

/// Where a reader of lines is.
#[derive(Clone, Debug)]
pub struct Cursor {
    only: Option<EnclaveId>,
    next: BTreeMap<EnclaveId, u64>,
    /// The place, among all lines, of the first one that is not wanted any more.
    end: u64,
}

impl Enclaves {
    /// Whether an enclave has told something and is not forgotten.
    #[must_use]
    pub fn knows(&self, id: EnclaveId) -> bool {
        self.lock().known.contains_key(&id)
    }

    /// Those that are known, in the order of their CIDs.
    #[must_use]
    pub fn status(&self) -> Vec<EnclaveStatus> {
        self.lock().known.iter().map(|(id, enclave)| enclave.status(*id)).collect()
    }

    /// A reader of `only` one enclave or of all, before the newest `most` lines.
    #[must_use]
    pub fn cursor(&self, only: Option<EnclaveId>, most: Option<usize>) -> Cursor {
        let state = self.lock();
        let rings = || state.selected(only).map(|(id, enclave)| (id, &enclave.lines));
        let mut orders: Vec<_> =
            rings().flat_map(|(_, lines)| lines.iter().map(|(_, line)| line.order)).collect();
        let skipped = most.map_or(0, |most| orders.len().saturating_sub(most));
        orders.sort_unstable();
        let first = orders.get(skipped).copied().unwrap_or(state.lines);
        let next = rings().map(|(id, lines)| (id, lines.first_from(first))).collect();
        Cursor { only, next, end: u64::MAX }
    }

    /// As [`Self::cursor`], for a reader who wants nothing that comes later: where lines come as fast
    /// as they are read, there would be no end.
    #[must_use]
    pub fn page(&self, only: Option<EnclaveId>, most: Option<usize>) -> Cursor {
        let end = self.lock().lines;
        Cursor { end, ..self.cursor(only, most) }
    }

    /// At most `most` lines from `cursor` on, and before them how many are missing.
    pub fn read(&self, cursor: &mut Cursor, most: usize) -> Vec<LoggedLine> {
        let state = self.lock();
        cursor.next.retain(|id, _| state.known.contains_key(id));
        let mut found: Vec<(EnclaveId, u64, &Told)> = Vec::new();
        for (id, enclave) in state.selected(cursor.only) {
            let next = cursor.next.entry(id).or_insert_with(|| enclave.lines.start());
            let lines = enclave.lines.from(*next).take_while(|(_, line)| line.order < cursor.end);
            found.extend(lines.take(most).map(|(number, line)| (id, number, line)));
        }
        found.sort_unstable_by_key(|(_, _, line)| line.order);
        found.truncate(most);
        let mut read = Vec::with_capacity(found.len());
        for (id, number, line) in found {
            let next = cursor.next.entry(id).or_insert(number);
            if number > *next {
                let reason = "there was no room for them";
                read.push(LoggedLine::gap(id, line.time, number - *next, reason));
            }
            *next = number + 1;
            read.push(LoggedLine::new(id, line));
        }
        read
    }

    /// Ready once something was told after this call.
    pub fn changed(&self) -> impl Future<Output = ()> {
        self.changed.notified()
    }

    /// Ends every connection: this process exits.
    pub fn close(&self) {
        for enclave in self.lock().known.values_mut() {
            enclave.replace(None);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn selected(&self, only: Option<EnclaveId>) -> impl Iterator<Item = (EnclaveId, &Enclave)> {
        let all = self.known.iter().map(|(id, enclave)| (*id, enclave));
        all.filter(move |(id, _)| only.is_none_or(|only| only == *id))
    }

    /// The enclave of a new connection. `None` if there are too many that are connected.
    fn admit(&mut self, id: EnclaveId) -> Option<&mut Enclave> {
        if !self.known.contains_key(&id) && self.known.len() >= MOST_ENCLAVES {
            let idle = self.known.iter().filter(|(_, enclave)| !enclave.is_connected());
            let oldest = idle.min_by_key(|(_, enclave)| enclave.last_order()).map(|(id, _)| *id)?;
            self.known.remove(&oldest);
        }
        let lines = self.lines;
        Some(self.known.entry(id).or_insert_with(|| Enclave::new(lines)))
    }
}

/// How many enclaves are remembered. An instance runs four at most; every start has another CID
/// unless one is given.
const MOST_ENCLAVES: usize = 64;

#[cfg(test)]
mod tests;
