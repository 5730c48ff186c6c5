//! What was measured: every sample, and what follows from them.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::chain::Kind;
use crate::scenario::Scenario;

/// What a number is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Metric {
    Rate,
    CpuPerGib,
    P50,
    P99,
    P999,
    PerSecond,
    CpuEach,
    AtRest,
    InPerTunnel,
    OutPerTunnel,
    Left,
}

impl Metric {
    /// How many decimals are worth printing.
    pub(crate) fn decimals(self) -> usize {
        match self {
            Self::AtRest
            | Self::CpuPerGib
            | Self::InPerTunnel
            | Self::OutPerTunnel
            | Self::Rate => 2,
            Self::CpuEach | Self::P50 | Self::P99 | Self::P999 => 1,
            Self::Left | Self::PerSecond => 0,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AtRest => "worse relay at rest, MiB",
            Self::CpuEach => "CPU µs each, both relays",
            Self::CpuPerGib => "CPU s/GiB, both relays",
            Self::Left => "KiB left in worse relay",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::P999 => "p99.9 µs",
            Self::PerSecond => "per second",
            Self::InPerTunnel => "KiB each, in-relay",
            Self::OutPerTunnel => "KiB each, out-relay",
            Self::Rate => "GiB/s",
        })
    }
}

/// A row of the table.
pub(crate) type Row = (Scenario, Metric);

/// All samples.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// By round; a round in which the chain failed has none.
    samples: BTreeMap<Row, BTreeMap<Kind, BTreeMap<usize, f64>>>,
    failures: Vec<String>,
}

/// Something that was measured more than once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Results {
    pub(crate) fn add(&mut self, row: Row, kind: Kind, round: usize, value: f64) {
        let row = self.samples.entry(row).or_default();
        row.entry(kind).or_default().insert(round, value);
    }

    pub(crate) fn add_failure(&mut self, failure: String) {
        self.failures.push(failure);
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        self.samples.keys().copied()
    }

    pub(crate) fn value(&self, row: Row, kind: Kind) -> Option<Spread> {
        Spread::of(self.samples.get(&row)?.get(&kind)?.values().copied())
    }

    /// The ratio of two chains. It is taken round by round, since whatever else the machine does
    /// in a round slows both.
    pub(crate) fn ratio(&self, row: Row, kind: Kind, to: Kind) -> Option<Spread> {
        let row = self.samples.get(&row)?;
        let (ours, theirs) = (row.get(&kind)?, row.get(&to)?);
        let ratio = |(round, ours): (_, &f64)| Some(ours / theirs.get(round)?);
        Spread::of(ours.iter().filter_map(ratio))
    }

    /// Every sample, by scenario, metric and chain.
    pub(crate) fn to_json(&self) -> Value {
        let rows = self.samples.iter().map(|((scenario, metric), kinds)| {
            let chains = kinds.iter().map(|(kind, samples)| {
                let samples: Vec<_> = samples.values().collect();
                (kind.to_string(), json!(samples))
            });
            json!({
                "scenario": scenario.to_string(),
                "metric": metric.to_string(),
                "samples": Value::Object(chains.collect()),
            })
        });
        json!({ "rows": rows.collect::<Vec<_>>(), "failures": self.failures })
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = (Scenario::Connect { at_once: 1 }, Metric::PerSecond);

    #[test]
    fn a_ratio_is_that_of_each_round() {
        let mut results = Results::default();
        for (round, ours, theirs) in [(0, 8.0, 4.0), (1, 3.0, 1.0), (2, 100.0, 25.0)] {
            results.add(ROW, Kind::Raw, round, ours);
            results.add(ROW, Kind::Socat, round, theirs);
        }
        let ratio = results.ratio(ROW, Kind::Raw, Kind::Socat).unwrap();
        assert_eq!(ratio, Spread { median: 3.0, least: 2.0, most: 4.0 });
    }

    #[test]
    fn a_round_in_which_one_failed_has_no_ratio() {
        let mut results = Results::default();
        results.add(ROW, Kind::Raw, 0, 8.0);
        results.add(ROW, Kind::Raw, 1, 9.0);
        results.add(ROW, Kind::Socat, 1, 3.0);
        assert_eq!(results.ratio(ROW, Kind::Raw, Kind::Socat).unwrap().most, 3.0);
        assert_eq!(results.ratio(ROW, Kind::Raw, Kind::Nginx), None);
    }

    #[test]
    fn the_median_of_two_lies_between_them() {
        assert_eq!(Spread::of([1.0, 2.0].into_iter()).unwrap().median, 1.5);
    }
}
