//! Every alert has a chapter of OPERATIONS.md, and no chapter is of an alert that is not there.

use super::markdown::Markdown;
use super::read;

#[test]
fn every_alert_has_a_chapter_and_every_chapter_an_alert() {
    let rules = read("configs/outproxy.rules.yml");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: Vec<_> = alerts.map(String::from).collect();
    assert!(alerts.len() > 15, "{alerts:?}");

    let headings = Markdown::parse(&read("docs/OPERATIONS.md")).headings;
    let after = headings.into_iter().skip_while(|heading| heading.title != "Alerts").skip(1);
    let chapters: Vec<_> =
        after.take_while(|heading| heading.level > 2).map(|heading| heading.title).collect();
    assert_eq!(chapters, alerts, "in this order");
}
