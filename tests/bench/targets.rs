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
}

#[derive(Clone, Copy, Debug)]
enum Bound {
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
        match self.target.bound {
            Bound::AtLeast(bound) => self.measured.median >= bound,
            Bound::AtMost(bound) => self.measured.median <= bound,
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
                targets.push(Target { row, kind, than: haproxy, bound: AtLeast(bound) });
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

/// With AF_VSOCK between them.
fn vsock(row: Row) -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let (socat, vsock_proxy) = (Some(Kind::Socat), Some(Kind::VsockProxy));
    let bounds = match row {
        (Scenario::Download { .. } | Scenario::Upload { .. }, Metric::Rate) => {
            vec![(socat, AtLeast(4.0)), (vsock_proxy, AtLeast(3.5))]
        }
        (Scenario::Download { .. } | Scenario::Upload { .. }, Metric::CpuPerGib) => {
            vec![(socat, AtMost(0.25)), (vsock_proxy, AtMost(0.33))]
        }
        (Scenario::RoundTrip { .. }, Metric::P50) => {
            vec![(socat, AtMost(0.8)), (vsock_proxy, AtMost(0.95))]
        }
        (Scenario::Connect { .. }, Metric::PerSecond) => {
            vec![(socat, AtLeast(4.0)), (vsock_proxy, AtLeast(3.0))]
        }
        _ => vec![],
    };
    of_both(row, &bounds)
}

fn of_both(row: Row, bounds: &[(Option<Kind>, Bound)]) -> Vec<Target> {
    let kinds = [Kind::Raw, Kind::Routed];
    let target = |kind| bounds.iter().map(move |&(than, bound)| Target { row, kind, than, bound });
    kinds.into_iter().flat_map(target).collect()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((scenario, metric), kind) = (self.row, self.kind);
        write!(f, "{kind}: {scenario}, {metric} ")?;
        match self.bound {
            Bound::AtLeast(bound) => write!(f, "≥ {bound}")?,
            Bound::AtMost(bound) => write!(f, "≤ {bound}")?,
        }
        self.than.map_or(Ok(()), |than| write!(f, " × {than}"))
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
}
