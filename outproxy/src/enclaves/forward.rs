//! The lines of the enclaves on their way into the host's log: so many a second, the newest of each
//! source.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};
use tunnel::records::Level;
use tunnel::telemetry::OTHERS;

use super::enclave::Enclave;
use super::journald::Journald;
use super::lines::{Lines, LoggedLine, Told};
use super::{EnclaveId, Enclaves};

/// Where the lines go.
#[derive(Debug)]
pub enum HostLog {
    /// The journal itself, with the CID as a field.
    Journal(Journald),
    /// The log of this process, with the CID as a field.
    Own,
}

impl HostLog {
    /// The journal, if the log of this process goes there and can be reached; see systemd.exec(5),
    /// $JOURNAL_STREAM. `OUTPROXY_JOURNAL` is another socket than the journal's.
    #[must_use]
    pub fn detect() -> Self {
        let socket = env::var_os("OUTPROXY_JOURNAL").unwrap_or_else(|| JOURNAL.into());
        let journal = env::var_os("JOURNAL_STREAM").and_then(|_| Journald::connect(socket.into()));
        journal.map_or(Self::Own, Self::Journal)
    }

    /// Whether it took a line, or does not want it.
    fn write(&mut self, line: &LoggedLine) -> bool {
        match self {
            Self::Journal(journal) => !is_wanted(line.level) || journal.send(line),
            Self::Own => {
                log(line);
                true
            }
        }
    }
}

/// Forwards what the enclaves tell to the host's log.
pub async fn forward(enclaves: Arc<Enclaves>, mut log: HostLog) {
    let mut paces = BTreeMap::new();
    let mut seconds = interval(SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changed = enclaves.changed();
        loop {
            let lines = enclaves.due(&mut paces);
            if lines.is_empty() {
                break;
            }
            for (id, line) in lines {
                if !log.write(&line) {
                    enclaves.count_unlogged(id);
                }
            }
            // The tunnels go first.
            yield_now().await;
        }
        let is_restrained = paces.values().any(Pace::restrains);
        tokio::select! {
            () = changed => {}
            _ = seconds.tick(), if is_restrained => enclaves.renew(&mut paces),
        }
    }
}

/// How much of an enclave was forwarded, and may be.
#[derive(Debug)]
struct Pace {
    /// The number of the next line.
    next: u64,
    allowance: usize,
    /// How many lines right before it were left out.
    skipped: u64,
    /// Of each source, what comes before this number is left out.
    first: BTreeMap<&'static str, u64>,
}

type Paces = BTreeMap<EnclaveId, Pace>;

impl Pace {
    fn new(lines: &Lines) -> Self {
        Self { next: lines.start(), allowance: BURST, skipped: 0, first: BTreeMap::new() }
    }

    fn skip_to(&mut self, number: u64) -> u64 {
        let skipped = number.saturating_sub(self.next);
        self.next += skipped;
        self.skipped += skipped;
        skipped
    }

    fn leaves_out(&self, number: u64, line: &Told) -> bool {
        self.first.get(line.source).is_some_and(|first| number < *first)
    }

    fn restrains(&self) -> bool {
        self.allowance < BURST
    }

    /// Another second has passed. What cannot be forwarded in this one is left out, but for the
    /// newest of each source: they may be the last.
    fn renew(&mut self, lines: &Lines) {
        self.allowance = (self.allowance + LINES_PER_SECOND).min(BURST);
        let mut waiting = BTreeMap::<_, Vec<_>>::new();
        for (number, line) in lines.from(self.next) {
            if !self.leaves_out(number, line) {
                waiting.entry(line.source).or_default().push(number);
            }
        }
        let share = share(self.allowance, waiting.values().map(Vec::len).collect());
        for (source, numbers) in waiting {
            let first = numbers.len().saturating_sub(share);
            self.first.extend(numbers.get(first).map(|number| (source, *number)));
        }
    }
}

/// How many each may have, so that all have no more than `most` together: who has fewer leaves the
/// rest to the others.
fn share(most: usize, mut counts: Vec<usize>) -> usize {
    counts.sort_unstable();
    let mut left = most;
    for (index, count) in counts.iter().enumerate() {
        let share = left / (counts.len() - index);
        if *count > share {
            return share;
        }
        left -= count;
    }
    most
}

impl Enclaves {
    /// A few lines that may be forwarded now.
    fn due(&self, paces: &mut Paces) -> Vec<(EnclaveId, LoggedLine)> {
        let mut due = Vec::new();
        let mut state = self.lock();
        paces.retain(|id, _| state.known.contains_key(id));
        for (id, Enclave { lines, counts, .. }) in &mut state.known {
            let pace = paces.entry(*id).or_insert_with(|| Pace::new(lines));
            for (number, line) in lines.from(pace.next) {
                // Those that are not kept any more are left out, too.
                counts.unlogged += pace.skip_to(number);
                if pace.leaves_out(number, line) {
                    counts.unlogged += pace.skip_to(number + 1);
                    continue;
                }
                if pace.allowance == 0 || due.len() >= AT_ONCE {
                    break;
                }
                if pace.skipped > 0 {
                    let reason = "they came faster than they are logged";
                    due.push((*id, LoggedLine::gap(*id, line.time, pace.skipped, reason)));
                    pace.skipped = 0;
                }
                due.push((*id, LoggedLine::new(*id, line)));
                pace.next = number + 1;
                pace.allowance -= 1;
            }
        }
        due
    }

    /// Another second has passed.
    fn renew(&self, paces: &mut Paces) {
        let state = self.lock();
        for (id, enclave) in &state.known {
            if let Some(pace) = paces.get_mut(id) {
                pace.renew(&enclave.lines);
            }
        }
    }

    fn count_unlogged(&self, id: EnclaveId) {
        if let Some(enclave) = self.lock().known.get_mut(&id) {
            enclave.counts.unlogged += 1;
        }
    }
}

/// Whether the `[log] level` of this process lets lines of that level through.
fn is_wanted(level: Level) -> bool {
    match level {
        Level::Debug => tracing::enabled!(target: OTHERS, tracing::Level::DEBUG),
        Level::Error => tracing::enabled!(target: OTHERS, tracing::Level::ERROR),
        Level::Info => tracing::enabled!(target: OTHERS, tracing::Level::INFO),
        Level::Trace => tracing::enabled!(target: OTHERS, tracing::Level::TRACE),
        Level::Warn => tracing::enabled!(target: OTHERS, tracing::Level::WARN),
    }
}

/// Writes a line into our own log. Its words stand in a field: none of them can pass for ours.
fn log(LoggedLine { cid, source, level, text, .. }: &LoggedLine) {
    match level {
        Level::Debug => tracing::debug!(target: OTHERS, cid, source, text, "{FROM_ENCLAVE}"),
        Level::Error => tracing::error!(target: OTHERS, cid, source, text, "{FROM_ENCLAVE}"),
        Level::Info => tracing::info!(target: OTHERS, cid, source, text, "{FROM_ENCLAVE}"),
        Level::Trace => tracing::trace!(target: OTHERS, cid, source, text, "{FROM_ENCLAVE}"),
        Level::Warn => tracing::warn!(target: OTHERS, cid, source, text, "{FROM_ENCLAVE}"),
    }
}

const JOURNAL: &str = "/run/systemd/journal/socket";
const FROM_ENCLAVE: &str = "from an enclave";
const SECOND: Duration = Duration::from_secs(1);
/// How many lines of one enclave are forwarded in a second in the long run. Four enclaves, as many
/// as an instance can have, together stay below what the journal takes of a service by default:
/// 10,000 lines in 30 s, of all that it has to say.
const LINES_PER_SECOND: usize = 50;
/// How many there may be at once, after a time with fewer.
const BURST: usize = 1000;
/// After how many others get their turn.
const AT_ONCE: usize = 50;

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;
    use tunnel::records::{Line, Source};

    const ID: EnclaveId = EnclaveId(None);

    /// Lines of these numbers; their text is the number.
    fn tell(enclaves: &Enclaves, source: Source, numbers: RangeInclusive<usize>) {
        let mut state = enclaves.lock();
        let mut order = state.lines;
        let enclave = state.known.entry(ID).or_insert_with(|| Enclave::new(0));
        for number in numbers {
            let (text, number) = (number.to_string().into(), number as u64);
            let line = Line { number, missing: 0, time: 0, source, level: Level::Info, text };
            enclave.hear_line(&line, &mut order);
        }
        state.lines = order;
    }

    fn due(enclaves: &Enclaves, paces: &mut Paces) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let lines = enclaves.due(paces);
            if lines.is_empty() {
                return all;
            }
            assert!(lines.len() <= AT_ONCE + 1);
            all.extend(lines.into_iter().map(|(_, line)| line.text));
        }
    }

    fn gap(missing: usize) -> String {
        format!("{missing} lines are missing here: they came faster than they are logged")
    }

    fn unlogged(enclaves: &Enclaves) -> usize {
        usize::try_from(enclaves.status()[0].lines.unlogged).unwrap()
    }

    #[test]
    fn a_flood_is_forwarded_in_part_and_its_end_at_last() {
        let enclaves = Enclaves::default();
        let mut paces = Paces::new();
        tell(&enclaves, Source::Stdout, 1..=BURST);
        let lines = due(&enclaves, &mut paces);
        assert_eq!((lines.len(), lines[0].as_str()), (BURST, "1"));

        tell(&enclaves, Source::Stdout, BURST + 1..=BURST + 30_000);
        assert!(due(&enclaves, &mut paces).is_empty());
        enclaves.renew(&mut paces);
        let lines = due(&enclaves, &mut paces);
        let missing = 30_000 - LINES_PER_SECOND;
        assert_eq!(lines.first(), Some(&gap(missing)));
        assert_eq!(lines.last(), Some(&(BURST + 30_000).to_string()));
        assert_eq!(lines.len(), LINES_PER_SECOND + 1);
        assert_eq!(unlogged(&enclaves), missing);
    }

    #[test]
    fn a_flood_takes_no_share_of_another_source() {
        let enclaves = Enclaves::default();
        let mut paces = Paces::new();
        tell(&enclaves, Source::Stdout, 1..=2 * BURST);
        due(&enclaves, &mut paces);
        let mut last = 2 * BURST;
        for second in 1..20 {
            let (before, after) = (last + 500, last + 1500);
            tell(&enclaves, Source::Stdout, last + 1..=before - 1);
            tell(&enclaves, Source::Inproxy, before..=before);
            tell(&enclaves, Source::Stdout, before + 1..=after);
            last = after;
            enclaves.renew(&mut paces);
            let lines = due(&enclaves, &mut paces);
            assert_eq!(lines[1], before.to_string(), "{second}");
            assert_eq!(lines.last(), Some(&last.to_string()));
            let gaps = lines.iter().filter(|line| line.contains("missing")).count();
            assert_eq!(lines.len() - gaps, LINES_PER_SECOND, "{second}");
        }
        // Two that flood have a half each.
        for number in (last + 1..last + 3000).step_by(2) {
            tell(&enclaves, Source::Stdout, number..=number);
            tell(&enclaves, Source::Stderr, number + 1..=number + 1);
        }
        enclaves.renew(&mut paces);
        let lines = due(&enclaves, &mut paces);
        let expected = last + 3000 - LINES_PER_SECOND + 1..=last + 3000;
        assert_eq!(lines[1..], expected.map(|number| number.to_string()).collect::<Vec<_>>());
        let logged = BURST + 20 * LINES_PER_SECOND;
        assert_eq!(unlogged(&enclaves), last + 3000 - logged);
    }

    #[test]
    fn who_has_fewer_leaves_the_rest_to_the_others() {
        for (most, counts, expected) in [
            (50, vec![], 50),
            (50, vec![50], 50),
            (50, vec![51], 50),
            (50, vec![1000, 1000], 25),
            (50, vec![1000, 1], 49),
            (50, vec![10, 20, 20], 50),
            (50, vec![1000, 10, 1000], 20),
            (50, vec![17, 17, 17], 16),
        ] {
            assert_eq!(share(most, counts.clone()), expected, "{counts:?}");
        }
    }

    #[test]
    fn after_a_quiet_time_there_may_be_many_again() {
        let enclaves = Enclaves::default();
        let mut paces = Paces::new();
        tell(&enclaves, Source::Stdout, 1..=BURST);
        assert_eq!(due(&enclaves, &mut paces).len(), BURST);
        for _ in 0..2 * BURST / LINES_PER_SECOND {
            enclaves.renew(&mut paces);
        }
        assert!(!paces[&ID].restrains());
        tell(&enclaves, Source::Stdout, BURST + 1..=2 * BURST);
        assert_eq!(due(&enclaves, &mut paces).len(), BURST);
        assert_eq!(unlogged(&enclaves), 0);
    }
}
