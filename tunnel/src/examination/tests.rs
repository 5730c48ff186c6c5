use super::*;

#[derive(Clone, Default, Serialize)]
struct Details {
    address: Option<&'static str>,
}

fn examination() -> Examination<Details> {
    let mut examination = Examination::new("1.2.3");
    let nothing = Details::default();
    examination.add(
        "machine",
        None,
        [
            Finding::ok("kernel", "Linux 6.12.101").with(nothing.clone()),
            Finding::warning("clock", "late", "2 s late", "set it").with(nothing),
        ],
    );
    let address = Some("10.0.10.103:2223");
    examination.add(
        "rule",
        Some("hsm"),
        [Finding::failed("hsm.example:2223", "refused", "says \u{1b}[2J", "start it")
            .with(Details { address })],
    );
    let skipped = Finding::skipped("10.0.12.0/24 port 2223", "many hosts");
    examination.add("rule", Some("block"), [skipped.with(Details::default())]);
    examination
}

#[test]
fn people_see_groups_and_below_each_line_what_to_do() {
    assert_eq!(
        examination().to_string(),
        "\
machine
  ok       kernel                  Linux 6.12.101
  warning  clock                   2 s late
           set it

rule hsm
  failed   hsm.example:2223        says \\u{1b}[2J
           start it

rule block
  skipped  10.0.12.0/24 port 2223  many hosts

1 failed, 1 warning, 1 ok, 1 skipped
"
    );
}

#[test]
fn scripts_find_the_same_keys_in_every_finding() {
    let json: serde_json::Value = serde_json::to_value(examination()).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["version"], "1.2.3");
    assert_eq!(json["result"], "failed");
    assert_eq!(
        json["findings"][2],
        serde_json::json!({
            "group": "rule",
            "name": "hsm",
            "subject": "hsm.example:2223",
            "result": "failed",
            "problem": "refused",
            "found": "says \u{1b}[2J",
            "advice": "start it",
            "address": "10.0.10.103:2223",
        })
    );
    let keys = |finding: &serde_json::Value| -> Vec<String> {
        finding.as_object().unwrap().keys().cloned().collect()
    };
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| keys(finding) == keys(&findings[0])), "{json}");
}

#[test]
fn only_a_failure_is_bad_and_what_is_skipped_is_no_harm() {
    let mut examination = Examination::new("1.2.3");
    examination.add("machine", None, [Finding::skipped("kernel", "")]);
    assert_eq!(examination.result, Verdict::Ok);
    examination.add("machine", None, [Finding::warning("kernel", "old", "", "")]);
    assert!(examination.is_good());
    assert_eq!(examination.result, Verdict::Warning);
    examination.add("machine", None, [Finding::failed("kernel", "old", "", "")]);
    assert!(!examination.is_good());
}
