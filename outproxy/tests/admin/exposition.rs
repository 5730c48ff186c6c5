//! Prometheus' text format, read as strictly as Prometheus may.

use std::collections::{BTreeMap, BTreeSet};

/// A metric and its series.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) series: Vec<Series>,
}

/// One line with a value.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: BTreeMap<String, String>,
}

/// All families, by name. It panics where something stands twice or out of place.
pub(crate) fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let family = Family { help: help.into(), ..Family::default() };
            assert!(families.insert(name.into(), family).is_none(), "{name} twice");
            current = name.into();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current, "a type without help");
            families.get_mut(name).unwrap().kind = kind.into();
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(key), "{key} twice");
            let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix).filter(|base| *base == current));
            assert_eq!(base.unwrap_or(name), current, "a series out of place");
            let labels = parse_labels(labels.strip_suffix('}').unwrap());
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            families.get_mut(&current).unwrap().series.push(Series { labels });
        }
    }
    families
}

fn parse_labels(text: &str) -> BTreeMap<String, String> {
    // No value here has a quote, a comma or a backslash in it: that is part of what is tested.
    text.split_terminator(',')
        .map(|label| {
            let (key, value) = label.split_once('=').unwrap();
            let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            assert!(!value.contains(['"', '\\']), "{label}");
            (key.into(), value.into())
        })
        .collect()
}

/// What tells the series of a text apart, without their values.
pub(crate) fn keys(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0).collect()
}
