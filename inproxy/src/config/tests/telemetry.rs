//! What the host is told.

use super::*;

#[test]
fn what_is_told_to_the_host_is_asked_for_in_so_many_words() {
    let routed = format!("[[forward]]\nname = 'a'\n{REST}[telemetry]\n");
    let raw = "[[forward]]\nname = 'a'\naddresses = ['10.0.20.5']\nports = [2223]\n\
               via = 'vsock:3:2223'\n[telemetry]\n";
    let told = |output| Some(Telemetry { application_output: output });
    for (text, expected) in [
        (routed.clone(), told(false)),
        (routed.clone() + "enabled = true", told(false)),
        (routed.clone() + "application-output = false", told(false)),
        (routed.clone() + "application-output = true", told(true)),
        (routed.clone() + "enabled = false", None),
        (routed.clone() + "enabled = false\napplication-output = false", None),
        (raw.to_owned(), None),
        (raw.to_owned() + "application-output = false", None),
        (format!("outproxy = 'vsock:3:8443'\n{raw}"), told(false)),
        (format!("outproxy = 'vsock:3:8443'\n{raw}application-output = true"), told(true)),
    ] {
        assert_eq!(config(&text).telemetry, expected, "{text}");
    }
    for (text, line, expected) in [
        (
            format!("{routed}enabled = false\napplication-output = true"),
            7,
            "nothing is told with `enabled = false`; write `enabled = true`, or remove this",
        ),
        (
            format!("{raw}application-output = true"),
            7,
            "every forward has `via`, so nobody is there to be told; \
             write `outproxy` where one listens, or remove this",
        ),
    ] {
        assert_eq!(mistakes(&text), [(Some(line), expected.to_owned())], "{text}");
    }
}

#[test]
fn mistakes_in_telemetry_are_shown_with_what_to_write_instead() {
    for (text, line, expected) in [
        ("[telemetry]\nenable = true", 2, "unknown key `enable`; write `enabled`"),
        (
            "[telemetry]\n\napplication_output = true",
            3,
            "unknown key `application_output`; write `application-output`",
        ),
        (
            "[telemetry]\nenabled = true\nsink = 'host'",
            3,
            "unknown key `sink`, expected `enabled` or `application-output`",
        ),
        ("telemetri = {}", 1, "unknown key `telemetri`; write `telemetry`"),
        ("[telemetry]\nenabled = 'yes'", 2, "invalid type: string \"yes\", expected a boolean"),
        ("[telemetry]\napplication-output = 1", 2, "invalid type: integer `1`, expected a boolean"),
        ("telemetry = true", 1, "invalid type: boolean `true`, expected a table `[telemetry]`"),
        ("[telemetry]\nenabled = true\nenabled = false", 3, "duplicate key"),
    ] {
        assert_eq!(mistakes(text), [(Some(line), expected.to_owned())], "{text}");
    }
    let report = "[telemetry]\nenabled = 'yes'\n".parse::<Config>().unwrap_err();
    assert_eq!(
        report.to_string(),
        "1 mistake
line 2, column 11
  |
2 | enabled = 'yes'
  |           ^^^^^
invalid type: string \"yes\", expected a boolean"
    );
}
