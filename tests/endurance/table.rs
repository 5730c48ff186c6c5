//! The reports as text.

use std::io::{self, Write};

use serde_json::Value;

/// Writes all reports, and what was lost.
pub(crate) fn write(out: &mut impl Write, trials: &[Value]) -> io::Result<()> {
    let titles = ["trial", "proxy", "descriptors", "memory, MiB", "threads", "lost", "seconds"];
    writeln!(out, "\n{}", row(titles.map(str::to_owned)))?;
    for trial in trials {
        write_trial(out, trial)?;
    }
    let broken: usize = trials.iter().map(|trial| list(&trial["broken"]).len()).sum();
    writeln!(out, "\n{} trials, {broken} promises broken", trials.len())
}

fn write_trial(out: &mut impl Write, trial: &Value) -> io::Result<()> {
    let name = trial["trial"].as_str().unwrap_or_default();
    let broken = list(&trial["broken"]);
    let seconds = format!("{:.1}", trial["seconds"].as_f64().unwrap_or_default());
    let mut last = [broken.len().to_string(), seconds];
    let mut first = name.to_owned();
    for proxy in ["outproxy", "inproxy"] {
        let usage = &trial["usage"][proxy];
        let span = |field: &str| match usage {
            Value::Null => "-".into(),
            _ => format!("{} > {}", usage[0][field], usage[1][field]),
        };
        let memory = [0, 1].map(|time| usage[time]["memory"].as_f64().unwrap_or_default());
        let memory = memory.map(|bytes| format!("{:.1}", bytes / f64::from(1 << 20)));
        let [lost, seconds] = std::mem::take(&mut last);
        let memory = if usage.is_null() { "-".into() } else { memory.join(" > ") };
        let cells = [
            std::mem::take(&mut first),
            proxy.to_owned(),
            span("descriptors"),
            memory,
            span("threads"),
            lost,
            seconds,
        ];
        if !usage.is_null() || proxy == "outproxy" {
            writeln!(out, "{}", row(cells))?;
        }
    }
    let done = list(&trial["done"]);
    let done: Vec<_> = done.iter().map(|done| format!("{} {}", done[1], text(&done[0]))).collect();
    writeln!(out, "    {}", done.join(", "))?;
    for note in list(&trial["notes"]) {
        writeln!(out, "    {}", text(note))?;
    }
    for broken in broken.iter().take(MOST_SHOWN) {
        writeln!(out, "    BROKEN {}", text(broken))?;
    }
    Ok(())
}

fn row(cells: [String; 7]) -> String {
    let [trial, proxy, descriptors, memory, threads, lost, seconds] = cells;
    format!("{trial:14}{proxy:10}{descriptors:>14}{memory:>16}{threads:>10}{lost:>6}{seconds:>9}")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// One cause may break a promise a thousand times.
const MOST_SHOWN: usize = 10;
