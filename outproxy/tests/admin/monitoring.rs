//! The alerts and the dashboard ask for what there is, and are whole. What promtool finds out, and
//! whether the dashboard is as Grafana's schema says, is in `make monitoring`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use tunnel::metrics::{CATALOGUE, Metric, Program, Values};

use crate::catalogue::busy;
use crate::exposition::parse;
use crate::process::{Place, get};

#[test]
fn what_is_asked_for_is_shown() {
    let place = Place::new();
    let _outproxy = busy(&place);
    let shown = parse(&get(&place, "/metrics"));
    let questions = alerts().into_values().map(|alert| alert["expr"].clone());
    let mut asked = BTreeSet::new();
    for question in questions.chain(dashboard_questions()) {
        let metrics = metrics_in(&question);
        assert!(!metrics.is_empty(), "{question}");
        check_matchers(&question, &metrics);
        asked.extend(metrics.iter().map(|metric| metric.name));
    }
    for name in &asked {
        let metric = CATALOGUE.iter().find(|metric| metric.name == *name).unwrap();
        // What enclaves tell, or AWS of clusters, is shown once there is one.
        let is_told = metric.program == Program::Inproxy || name.starts_with("outproxy_cluster_");
        assert!(is_told || shown.contains_key(*name), "{name}");
    }
    assert!(asked.len() > 20, "{asked:?}");
}

/// The metrics of a question in PromQL; `up` is Prometheus' own.
fn metrics_in(question: &str) -> Vec<&'static Metric> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut metrics = Vec::new();
    for word in without_strings(question).split(|char| !is_word(char)) {
        let prefixes = ["inproxy_", "outproxy_", "process_", "tunnel_"];
        if prefixes.iter().any(|prefix| word.starts_with(prefix)) {
            let base = word.strip_suffix("_bucket").unwrap_or(word);
            let metric = CATALOGUE.iter().find(|metric| metric.name == base);
            metrics.push(metric.unwrap_or_else(|| panic!("no metric `{word}`: {question}")));
        } else if word == "up" {
            metrics.push(&CATALOGUE[0]);
        }
    }
    metrics
}

fn without_strings(question: &str) -> String {
    question.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// Labels are the metric's, and words are such as they may have.
fn check_matchers(question: &str, metrics: &[&Metric]) {
    let pieces: Vec<_> = question.split('"').collect();
    for pair in pieces.chunks_exact(2) {
        let [before, value] = pair else { unreachable!("chunks of two") };
        let label =
            before.rsplit(['{', ',', ' ']).next().unwrap().trim_end_matches(['=', '~', '!']);
        if ["instance", "job"].contains(&label) {
            continue;
        }
        let labels = metrics.iter().flat_map(|metric| metric.labels);
        let known = labels.clone().find(|known| known.key == label);
        let known = known.unwrap_or_else(|| panic!("no label `{label}`: {question}"));
        if let Values::Closed(words) = known.values {
            for word in value.split('|') {
                assert!(words.contains(&word), "no `{word}`: {question}");
            }
        }
    }
    for grouping in question.split(" by (").skip(1) {
        for label in grouping.split(')').next().unwrap().split(", ") {
            let is_known = ["instance", "job", "le"].contains(&label)
                || metrics
                    .iter()
                    .all(|metric| metric.labels.iter().any(|known| known.key == label));
            assert!(is_known, "no label `{label}`: {question}");
        }
    }
}

#[test]
fn every_alert_says_what_to_do_and_is_tried() {
    let tried = fs::read_to_string(file("tests/monitoring/alerts.yml")).unwrap();
    for (name, alert) in alerts() {
        for key in ["expr", "for", "severity", "summary", "description", "action", "runbook"] {
            assert!(alert.get(key).is_some_and(|value| !value.is_empty()), "{name} has no {key}");
        }
        assert!(["critical", "warning"].contains(&alert["severity"].as_str()), "{name}");
        assert_eq!(alert["runbook"], format!("OPERATIONS.md#{}", name.to_lowercase()));
        assert!(tried.contains(&name), "tests/monitoring/alerts.yml never has {name} fire");
    }
}

/// The keys and values of each alert. A file of such plain lines needs no reader of YAML.
fn alerts() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = fs::read_to_string(file("configs/outproxy.rules.yml")).unwrap();
    let alerts = text.split("      - alert: ").skip(1);
    let alerts: BTreeMap<_, _> = alerts
        .map(|alert| {
            let (name, rest) = alert.split_once('\n').unwrap();
            let values = rest.lines().filter_map(|line| line.trim().split_once(": "));
            let plain = |value: &str| value.trim_matches('\'').replace("''", "'");
            (name.into(), values.map(|(key, value)| (key.into(), plain(value))).collect())
        })
        .collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    alerts
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let variables: Vec<_> = list(&dashboard["templating"]["list"])
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert!(variables.contains(&"datasource"));
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&dashboard["panels"]) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{title} is beside the grid");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{title} covers another panel");
        }
        if panel["type"] != "row" {
            check_panel(title, panel);
        }
    }
    for question in dashboard_questions() {
        for variable in question.split('$').skip(1) {
            let name = variable.split(|char: char| !char.is_alphanumeric() && char != '_').next();
            let name = name.unwrap();
            assert!(name == "__rate_interval" || variables.contains(&name), "{question}");
        }
    }
}

fn check_panel(title: &str, panel: &Value) {
    assert!(["stat", "state-timeline", "timeseries"].contains(&panel["type"].as_str().unwrap()));
    assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
    let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
    assert!(UNITS.contains(&unit), "{title}: {unit}");
    let targets = list(&panel["targets"]);
    let names: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str()).collect();
    assert!(!targets.is_empty() && names.len() == targets.len(), "{title}");
    for target in targets.iter().chain([panel]) {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(file("configs/grafana-dashboard.json")).unwrap())
        .unwrap()
}

fn dashboard_questions() -> Vec<String> {
    let dashboard = dashboard();
    let targets = list(&dashboard["panels"]).iter().filter_map(|panel| panel["targets"].as_array());
    let variables = list(&dashboard["templating"]["list"]).iter();
    targets
        .flatten()
        .chain(list(&dashboard["annotations"]["list"]))
        .map(|target| target["expr"].as_str().unwrap())
        .chain(variables.filter_map(|variable| variable["definition"].as_str()))
        .map(Into::into)
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Those of Grafana's units that are used.
const UNITS: &[&str] = &["Bps", "bytes", "none", "ops", "percentunit", "s"];
