//! The catalogue of metrics is what a running outproxy shows and what the document says.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};

use tunnel::metrics::{CATALOGUE, LabelKey, Metric, Program, Values};

use crate::exposition::{Family, parse};
use crate::process::{Outproxy, Place, connect, echo, get, refusing};
use crate::{ADMIN, LISTEN, rule};

/// An outproxy that has had to do with everything that is counted.
pub(crate) fn busy(place: &Place) -> Outproxy {
    let (up, (_held, down)) = (echo(), refusing());
    let [up_rule, down_rule] =
        [("up", up), ("down", down)].map(|(name, port)| rule(name, &[port]) + "probe = true\n");
    place.configure(&format!("{LISTEN}{ADMIN}{up_rule}{down_rule}"));
    let outproxy = place.serve();
    let (mut tunnel, _) = connect(place, &format!("127.0.0.1:{up}"));
    tunnel.write_all(b"hello").unwrap();
    tunnel.read_exact(&mut [0; 5]).unwrap();
    drop(tunnel);
    connect(place, &format!("127.0.0.1:{down}"));
    connect(place, "evil.example:443");
    outproxy
}

#[test]
fn what_is_shown_is_what_the_catalogue_says() {
    let place = Place::new();
    let _outproxy = busy(&place);
    let shown = parse(&get(&place, "/metrics"));
    for (name, family) in &shown {
        let metric = CATALOGUE.iter().find(|metric| metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("`{name}` is not in the catalogue"));
        assert_ne!(metric.program, Program::Inproxy, "{name}");
        assert_eq!((&*family.kind, &*family.help), (metric.kind.word(), metric.help), "{name}");
        assert!(!family.series.is_empty(), "{name}");
        check_labels(metric, family);
    }
    let is_of_outproxy = |metric: &&Metric| metric.program != Program::Inproxy;
    // Those of clusters are shown in another test, which has one.
    let is_of_cluster = |metric: &&Metric| metric.name.starts_with("outproxy_cluster_");
    for metric in CATALOGUE.iter().filter(is_of_outproxy).filter(|metric| !is_of_cluster(metric)) {
        assert!(shown.contains_key(metric.name), "`{}` is never shown", metric.name);
    }
}

fn check_labels(metric: &Metric, family: &Family) {
    let labels = family.series.iter().flat_map(|series| &series.labels);
    for (key, value) in labels.filter(|(key, _)| *key != "le") {
        let known = metric.labels.iter().find(|label| label.key == key);
        let known = known.unwrap_or_else(|| panic!("{}: `{key}` is no label", metric.name));
        match known.values {
            Values::Closed(words) => assert!(words.contains(&value.as_str()), "{key}={value}"),
            Values::From(_) => assert!(value.len() <= 63, "{key}={value}"),
        }
    }
}

#[test]
fn the_document_is_the_catalogue() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md");
    let document = fs::read_to_string(path).unwrap();
    for table in [metrics_table(), labels_table()] {
        assert!(document.contains(&table), "write into docs/METRICS.md:\n\n{table}");
    }
}

fn metrics_table() -> String {
    let mut table = String::from("| metric | of | kind | labels | |\n|---|---|---|---|---|\n");
    for Metric { name, kind, program, labels, help, .. } in CATALOGUE {
        let of = match program {
            Program::Inproxy => "inproxy",
            Program::Outproxy => "outproxy",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{}`", label.key)).collect();
        let labels = labels.join(", ");
        writeln!(table, "| `{name}` | {of} | {} | {labels} | {help} |", kind.word()).unwrap();
    }
    table
}

fn labels_table() -> String {
    let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
    for Metric { name, labels, .. } in CATALOGUE {
        for LabelKey { key, values } in *labels {
            let values = match values {
                Values::Closed(words) => {
                    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
                    words.join(", ")
                }
                Values::From(whence) => (*whence).into(),
            };
            let row = format!("| `{key}` | {values} |");
            match rows.iter_mut().find(|(known, _)| *known == row) {
                Some((_, of)) => of.push(name),
                None => rows.push((row, vec![name])),
            }
        }
    }
    rows.sort_unstable();
    let mut table = String::from("| label | values | of |\n|---|---|---|\n");
    for (row, of) in rows {
        let of: Vec<_> = of.iter().map(|name| format!("`{name}`")).collect();
        writeln!(table, "{row} {} |", of.join(", ")).unwrap();
    }
    table
}
