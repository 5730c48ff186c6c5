//! What is to be reached, and whether it was.

use std::fmt;

use crate::chain::Kind;
use crate::results::{Metric, Results, Row, Spread};
use crate::scenario::Scenario;

/// One row of what is to be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    row: Row,
    kind: Kind,
    /// What it is a ratio to; `None` if the number itself is bounded.
    than: Option<Kind>,
    bound: Bound,
    /// What has been reached, with a margin, and is not to be lost.
    held: Option<Bound>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A target, and what was measured of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) target: Target,
    pub(crate) measured: Spread,
}

impl Verdict {
    /// By the median.
    pub(crate) fn is_reached(&self) -> bool {
        self.target.bound.admits(self.measured.median)
    }

    /// Whether what had been reached is lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.target.held.is_some_and(|held| !held.admits(self.measured.median))
    }

    /// What had been reached.
    pub(crate) fn held(&self) -> Option<Bound> {
        self.target.held
    }
}

impl Bound {
    fn admits(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

/// Every target that was measured, in the order of the scenarios.
pub(crate) fn verdicts(results: &Results, is_vsock: bool) -> Vec<Verdict> {
    let targets = |row| if is_vsock { vsock(row) } else { unix(row) };
    let verdict = |target: Target| {
        let Target { row, kind, than, .. } = target;
        let measured = match than {
            Some(than) => results.ratio(row, kind, than),
            None => results.value(row, kind),
        };
        Some(Verdict { target, measured: measured? })
    };
    results.rows().flat_map(targets).filter_map(verdict).collect()
}

/// With a Unix socket between the relays.
fn unix(row: Row) -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let haproxy = Some(Kind::Haproxy);
    let bounds = match row {
        (Scenario::Download { streams: 1 | 8 } | Scenario::Upload { streams: 1 | 8 }, metric) => {
            match metric {
                Metric::Rate => vec![
                    (Some(Kind::Socat), AtLeast(4.0)),
                    (haproxy, AtLeast(1.8)),
                    (Some(Kind::HaproxySplice), AtLeast(1.0)),
                ],
                Metric::CpuPerGib => {
                    vec![(haproxy, AtMost(0.5)), (Some(Kind::HaproxySplice), AtMost(1.1))]
                }
                _ => vec![],
            }
        }
        (Scenario::RoundTrip { connections: 1, .. }, Metric::P50 | Metric::P99) => {
            vec![(haproxy, AtMost(0.85)), (Some(Kind::Nginx), AtMost(0.95))]
        }
        (Scenario::RoundTrip { connections: 64, .. }, Metric::PerSecond) => {
            vec![(haproxy, AtLeast(1.15)), (Some(Kind::Nginx), AtLeast(1.1))]
        }
        (Scenario::Connect { at_once }, Metric::PerSecond) => {
            let socat = if at_once == 1 { 4.0 } else { 7.0 };
            let mut targets = of_both(row, &[(Some(Kind::Socat), AtLeast(socat))]);
            for (kind, bound) in [(Kind::Raw, 1.0), (Kind::Routed, 0.9)] {
                let bound = AtLeast(bound);
                targets.push(Target { row, kind, than: haproxy, bound, held: None });
            }
            return targets;
        }
        (Scenario::Idle { .. }, Metric::InPerTunnel | Metric::OutPerTunnel) => {
            vec![(None, AtMost(2.0))]
        }
        (Scenario::Idle { .. }, Metric::Left) => vec![(None, AtMost(BASELINE))],
        (Scenario::Idle { .. }, Metric::AtRest) => vec![(None, AtMost(6.0))],
        _ => vec![],
    };
    of_both(row, &bounds)
}

/// With AF_VSOCK between them. What is held is what counted instructions have shown: they are the
/// same in each run, within 2 %. Processor time is not, since it comes in ticks; on the one core that
/// there is, throughput tells of it, too.
fn vsock(row: Row) -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let (bounds, held) = match row {
        (Scenario::Download { .. } | Scenario::Upload { .. }, Metric::Rate) => {
            ([AtLeast(4.0), AtLeast(3.5)], Some(AtLeast(2.2)))
        }
        (Scenario::Download { .. } | Scenario::Upload { .. }, Metric::CpuPerGib) => {
            ([AtMost(0.25), AtMost(0.33)], None)
        }
        (Scenario::RoundTrip { .. }, Metric::P50) => {
            ([AtMost(0.8), AtMost(0.95)], Some(AtMost(0.79)))
        }
        (Scenario::Connect { .. }, Metric::PerSecond) => {
            ([AtLeast(4.0), AtLeast(3.0)], Some(AtLeast(5.7)))
        }
        _ => return vec![],
    };
    let [than_socat, than_vsock_proxy] = bounds;
    let mut targets = of_both(row, &[(Some(Kind::Socat), than_socat)]);
    for target in &mut targets {
        target.held = held;
    }
    targets.extend(of_both(row, &[(Some(Kind::VsockProxy), than_vsock_proxy)]));
    targets
}

fn of_both(row: Row, bounds: &[(Option<Kind>, Bound)]) -> Vec<Target> {
    let kinds = [Kind::Raw, Kind::Routed];
    let target = |kind| {
        bounds.iter().map(move |&(than, bound)| Target { row, kind, than, bound, held: None })
    };
    kinds.into_iter().flat_map(target).collect()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((scenario, metric), kind) = (self.row, self.kind);
        write!(f, "{kind}: {scenario}, {metric} ")?;
        self.bound.fmt(f)?;
        self.than.map_or(Ok(()), |than| write!(f, " × {than}"))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

/// What memory may differ by, in KiB, before and after, and be the same.
const BASELINE: f64 = 256.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides() {
        let row = (Scenario::Connect { at_once: 1 }, Metric::PerSecond);
        let mut results = Results::default();
        for (round, ours) in [3.9, 4.0, 9.0].into_iter().enumerate() {
            results.add(row, Kind::Raw, round, ours);
            results.add(row, Kind::Socat, round, 1.0);
        }
        let verdicts = verdicts(&results, false);
        assert_eq!(verdicts.len(), 1);
        assert!(verdicts[0].is_reached());
        assert_eq!(
            verdicts[0].target.to_string(),
            "raw: connect, exchange, close, serial, per second ≥ 4 × socat"
        );
    }

    #[test]
    fn what_is_held_may_be_less_than_what_is_to_be_reached_but_not_lost() {
        let row = (Scenario::Connect { at_once: 32 }, Metric::PerSecond);
        let verdict = |ours| {
            let mut results = Results::default();
            results.add(row, Kind::Raw, 0, ours);
            results.add(row, Kind::Socat, 0, 1.0);
            verdicts(&results, true).remove(0)
        };
        assert!(verdict(4.5).is_reached() && verdict(4.5).is_lost());
        assert!(!verdict(6.0).is_lost());
        let row = (Scenario::Upload { streams: 1 }, Metric::Rate);
        let held = vsock(row).iter().filter(|target| target.held.is_some()).count();
        assert_eq!(held, 2, "raw and routed, against socat");
    }
}
