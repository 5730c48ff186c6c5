//! What a trial has to say.

use serde_json::{Value, json};

use tests::process::Process;
use tests::visits::{Ledger, Upstream};

/// The report of one trial.
#[derive(Debug, Default)]
pub(crate) struct Report {
    done: Vec<(&'static str, u64)>,
    notes: Vec<String>,
    broken: Vec<String>,
    /// outproxy and inproxy, before and after.
    usage: Option<[[Usage; 2]; 2]>,
}

/// What a proxy holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) descriptors: usize,
    /// Resident, in bytes.
    pub(crate) memory: u64,
    pub(crate) threads: usize,
}

impl Usage {
    pub(crate) fn of(process: &Process) -> Self {
        let descriptors = process.descriptors();
        Self { descriptors, memory: process.memory(), threads: process.threads() }
    }

    fn to_json(self) -> Value {
        let Self { descriptors, memory, threads } = self;
        json!({ "descriptors": descriptors, "memory": memory, "threads": threads })
    }
}

impl Report {
    /// So much was done.
    pub(crate) fn done(&mut self, what: &'static str, count: impl TryInto<u64>) {
        let count = count.try_into().unwrap_or(u64::MAX);
        match self.done.iter_mut().find(|(known, _)| *known == what) {
            Some((_, all)) => *all += count,
            None => self.done.push((what, count)),
        }
    }

    /// Something else is to be known.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A promise was broken.
    pub(crate) fn broken(&mut self, text: impl Into<String>) {
        self.broken.push(text.into());
    }

    /// A promise is broken if it does not hold.
    pub(crate) fn hold(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(text());
        }
    }

    /// Visits were made; none of them may have been lost, unless something was taken away.
    pub(crate) fn visits(&mut self, ledger: &Ledger, may_abort: bool) {
        self.done("visits", ledger.served);
        if may_abort {
            self.done("aborted", ledger.aborted);
        } else {
            let (aborted, refused) = (ledger.aborted, ledger.refused);
            self.hold(aborted == 0 && refused == 0, || {
                format!("N1: {aborted} visits were aborted and {refused} refused, without a cause")
            });
        }
        self.broken.extend(ledger.broken.iter().cloned());
    }

    /// What upstreams have seen.
    pub(crate) fn upstreams(&mut self, upstreams: &[Upstream]) {
        self.broken.extend(upstreams.iter().flat_map(Upstream::broken));
    }

    /// What both proxies held before and after.
    pub(crate) fn usage(&mut self, before: [Usage; 2], after: [Usage; 2]) {
        self.usage = Some([before, after]);
    }

    /// How long recoveries took, in milliseconds.
    pub(crate) fn recoveries(&mut self, what: &str, mut millis: Vec<u128>) {
        millis.sort_unstable();
        if let Some(most) = millis.last() {
            let median = millis[millis.len() / 2];
            self.note(format!("{what}: after {median} ms in the median, {most} ms at most"));
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let done: Vec<_> = self.done.iter().map(|(what, count)| json!([what, count])).collect();
        let usage = self.usage.map(|usage| {
            let of = |proxy: usize| usage.map(|both| both[proxy].to_json());
            json!({ "outproxy": of(0), "inproxy": of(1) })
        });
        json!({ "done": done, "notes": self.notes, "broken": self.broken, "usage": usage })
    }
}
