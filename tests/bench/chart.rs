//! The results as a picture: bars of ratios, in plain SVG.

use std::fmt::Write;

use crate::chain::Kind;
use crate::results::{Metric, Results, Row};
use crate::scenario::Scenario;

/// A bar chart of how fast each chain is in some scenarios, with one of them as 1.
pub(crate) fn draw(results: &Results, kinds: &[Kind], one: Kind) -> String {
    let shown: Vec<_> =
        SHOWN.iter().filter(|(row, ..)| results.value(*row, one).is_some()).collect();
    let kinds: Vec<_> = kinds.iter().copied().filter(|kind| *kind != Kind::Direct).collect();
    let bars =
        |row| kinds.iter().filter_map(move |kind| Some((*kind, speed(results, row, *kind, one)?)));
    let longest =
        shown.iter().flat_map(|(row, _)| bars(*row)).map(|(_, speed)| speed).fold(1.0, f64::max);
    let scale = BAR_WIDTH / longest;
    let mut body = String::new();
    let mut y = TOP;
    for (row, title) in shown {
        text(&mut body, LEFT, y + BAR, "start", "t", title);
        y += BAR + GAP;
        for (kind, speed) in bars(*row) {
            let color = if kind.is_ours() { "o" } else { "p" };
            let width = speed * scale;
            rect(&mut body, y, width, color);
            text(&mut body, LEFT + NAME_WIDTH - GAP, y + BAR - GAP, "end", "n", &kind.to_string());
            let label = format!("{speed:.2}");
            text(&mut body, LEFT + NAME_WIDTH + width + GAP, y + BAR - GAP, "start", "n", &label);
            y += BAR + GAP / 2.0;
        }
        y += BAR;
    }
    let x = LEFT + NAME_WIDTH + scale;
    let width = LEFT + NAME_WIDTH + BAR_WIDTH + RIGHT;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {y:.0}\" \
         width=\"{width:.0}\" height=\"{y:.0}\" font-family=\"sans-serif\">\n\
         <style>.t{{font-size:14px;font-weight:bold;fill:#444}}.n{{font-size:12px;fill:#555}}\
         .o{{fill:#2a7de1}}.p{{fill:#b9bec6}}.l{{stroke:#888;stroke-dasharray:3 3}}\
         @media(prefers-color-scheme:dark){{.t{{fill:#ddd}}.n{{fill:#bbb}}.p{{fill:#5c6370}}}}\
         </style>\n\
         <text x=\"{LEFT}\" y=\"18\" class=\"n\">Speed as a multiple of {one}; \
         longer is faster</text>\n{body}\
         <line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{y:.0}\" class=\"l\"/>\n</svg>\n"
    )
}

/// More is faster, also where less time is.
fn speed(results: &Results, row: Row, kind: Kind, one: Kind) -> Option<f64> {
    let (_, metric) = row;
    match metric {
        Metric::P50 => results.ratio(row, one, kind),
        _ => results.ratio(row, kind, one),
    }
    .map(|ratio| ratio.median)
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, class: &str, content: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{content}</text>"
    );
}

fn rect(svg: &mut String, y: f64, width: f64, class: &str) {
    let x = LEFT + NAME_WIDTH;
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR:.0}\" class=\"{class}\"/>"
    );
}

const SHOWN: &[(Row, &str)] = &[
    ((Scenario::Upload { streams: 1 }, Metric::Rate), "Bytes per second, one stream"),
    ((Scenario::Download { streams: 8 }, Metric::Rate), "Bytes per second, 8 streams"),
    (
        (Scenario::RoundTrip { size: 256, connections: 1 }, Metric::P50),
        "Round trip of 256 bytes, one connection",
    ),
    (
        (Scenario::RoundTrip { size: 256, connections: 64 }, Metric::PerSecond),
        "Round trips of 256 bytes per second, 64 connections",
    ),
    (
        (Scenario::Connect { at_once: 1 }, Metric::PerSecond),
        "Connections per second, one after another",
    ),
    ((Scenario::Connect { at_once: 32 }, Metric::PerSecond), "Connections per second, 32 at once"),
];

const LEFT: f64 = 10.0;
const TOP: f64 = 30.0;
const RIGHT: f64 = 50.0;
const NAME_WIDTH: f64 = 130.0;
const BAR_WIDTH: f64 = 500.0;
const BAR: f64 = 16.0;
const GAP: f64 = 4.0;
