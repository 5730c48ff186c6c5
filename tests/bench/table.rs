//! The results as text.

use std::io::{self, Write};

use crate::chain::Kind;
use crate::results::Results;
use crate::targets::Verdict;

/// Writes the medians, every chain beside the others.
pub(crate) fn write_medians(
    out: &mut impl Write,
    results: &Results,
    kinds: &[Kind],
) -> io::Result<()> {
    writeln!(out, "\nMedians\n")?;
    write!(out, "{:WIDTH$}", "")?;
    for kind in kinds {
        write!(out, " {:>COLUMN$}", kind.to_string())?;
    }
    writeln!(out)?;
    let mut last = None;
    for row in results.rows() {
        let (scenario, metric) = row;
        if last != Some(scenario) {
            writeln!(out, "{scenario}")?;
            last = Some(scenario);
        }
        write!(out, "{:WIDTH$}", format!("  {metric}"))?;
        for kind in kinds {
            match results.value(row, *kind) {
                Some(value) => write!(out, " {:>COLUMN$.*}", metric.decimals(), value.median)?,
                None => write!(out, " {:>COLUMN$}", "–")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Writes what was to be reached, and whether it was.
pub(crate) fn write_verdicts(out: &mut impl Write, verdicts: &[Verdict]) -> io::Result<()> {
    writeln!(out, "\nTo reach: median of the rounds' ratios (least..most)\n")?;
    for verdict in verdicts {
        let mark = if verdict.is_reached() { "reached" } else { "NOT YET" };
        let spread = verdict.measured;
        let (median, least, most) = (spread.median, spread.least, spread.most);
        writeln!(out, "{mark}  {}: {median:.2} ({least:.2}..{most:.2})", verdict.target)?;
    }
    let reached = verdicts.iter().filter(|verdict| verdict.is_reached()).count();
    writeln!(out, "\n{reached} of {} reached", verdicts.len())
}

const WIDTH: usize = 36;
const COLUMN: usize = 17;
