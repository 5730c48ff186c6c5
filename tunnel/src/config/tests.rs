use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;
use crate::destination::Port;
use crate::endpoint::Endpoint;

/// A small file with everything that the real ones have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    listen: Vec<Spanned<Listen>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Listen {
    on: Spanned<Endpoint>,
    #[serde(rename = "max-connections")]
    _max_connections: Option<Port>,
    ports: Option<List<Port>>,
}

#[derive(Debug)]
struct Config {
    listeners: Vec<(Endpoint, Vec<Port>)>,
}

impl TryFrom<File> for Config {
    type Error = Mistakes;

    fn try_from(file: File) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let mut listeners = Vec::new();
        let mut first: Option<Spanned<Endpoint>> = None;
        if file.listen.is_empty() {
            mistakes.add_missing("there is no `[[listen]]`; write one");
        }
        for listen in file.listen {
            let listen = listen.into_inner();
            let endpoint = listen.on.get_ref().clone();
            match &first {
                Some(first) if first.get_ref() == listen.on.get_ref() => mistakes.add_clash(
                    listen.on.span(),
                    first.span(),
                    format!("more than one `[[listen]]` is on `{endpoint}`"),
                ),
                _ => first = Some(listen.on),
            }
            let ports =
                listen.ports.map(|ports| ports.into_values(&mut mistakes)).unwrap_or_default();
            listeners.push((endpoint, ports));
        }
        mistakes.or(Self { listeners })
    }
}

fn report(text: &str) -> String {
    parse::<File, Config>(text).unwrap_err().to_string()
}

#[test]
fn a_good_file_is_loaded() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // Editors on Windows begin a file with a byte order mark and end its lines with CR LF.
    fs::write(&file, "\u{feff}[[listen]]\r\non = \"vsock:any:8443\"\r\nports = [1, 2]\r\n")
        .unwrap();
    let config: Config = load::<File, _>(file.path()).unwrap();
    let [(endpoint, ports)] = &config.listeners[..] else {
        panic!("{config:?}");
    };
    assert_eq!(endpoint.to_string(), "vsock:any:8443");
    assert_eq!(ports.iter().map(|port| port.get()).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_syntax_error_is_shown_with_its_line() {
    assert_eq!(
        report("# comment\r\n[[listen]]\r\non = \"vsock:3:1\r\n"),
        r#"1 mistake
line 3, column 16
  |
3 | on = "vsock:3:1
  |                ^
invalid basic string, expected `"`"#
    );
}

#[test]
fn an_unknown_key_is_shown_with_the_one_that_was_meant() {
    assert_eq!(
        report("[[listen]]\non = \"vsock:3:1\"\nmax_conections = 1\n"),
        "1 mistake
line 3, column 1
  |
3 | max_conections = 1
  | ^^^^^^^^^^^^^^
unknown key `max_conections`; write `max-connections`"
    );
}

#[test]
fn an_unknown_key_like_no_other_is_shown_with_the_known_ones() {
    assert_eq!(
        report("[[listen]]\nupstream = 1\n"),
        "1 mistake
line 2, column 1
  |
2 | upstream = 1
  | ^^^^^^^^
unknown key `upstream`, expected one of `on`, `max-connections`, `ports`"
    );
}

#[test]
fn a_missing_key_is_shown_at_its_table() {
    assert_eq!(
        report("[[listen]]\nports = [1]\n"),
        "1 mistake
line 1, column 1
  |
1 | [[listen]]
  | ^^^^^^^^^^
missing key `on`"
    );
}

#[test]
fn a_wrong_type_is_shown_with_the_right_one() {
    assert_eq!(
        report("[[listen]]\non = \"vsock:3:1\"\nmax-connections = \"9\""),
        "1 mistake
line 3, column 19
  |
3 | max-connections = \"9\"
  |                   ^^^
invalid type: string \"9\", expected a whole number"
    );
    assert!(report("listen = 9").ends_with("invalid type: integer `9`, expected an array"));
}

#[test]
fn a_value_that_does_not_parse_says_what_to_write() {
    assert_eq!(
        report("[[listen]]\non = \"vsock:9\"\n"),
        "1 mistake
line 2, column 6
  |
2 | on = \"vsock:9\"
  |      ^^^^^^^^^
vsock endpoint `9` has no port; write `vsock:<cid>:<port>`"
    );
}

#[test]
fn all_cross_field_mistakes_are_shown_at_once_in_the_order_of_their_lines() {
    assert_eq!(
        report(
            "[[listen]]\non = \"vsock:3:1\"\n[[listen]]\non = \"vsock:3:1\"\nports = [\n  1,\n  65979,\n  \"2\",\n]\n\
             [[listen]]\non = \"unix:/a\"\nports = []"
        ),
        "4 mistakes
line 4, column 6
  |
4 | on = \"vsock:3:1\"
  |      ^^^^^^^^^^^
more than one `[[listen]]` is on `vsock:3:1`; the other is on line 2

line 7, column 3
  |
7 |   65979,
  |   ^^^^^
port `65979` is out of range; write a number from 1 to 65535

line 8, column 3
  |
8 |   \"2\",
  |   ^^^
invalid type: string \"2\", expected a whole number

line 12, column 9
   |
12 | ports = []
   |         ^^
the array is empty; write at least one element"
    );
}

#[test]
fn what_is_missing_altogether_has_no_line() {
    assert_eq!(report(""), "1 mistake\nthere is no `[[listen]]`; write one");
}

#[test]
fn a_huge_line_is_cut_around_the_mistake() {
    let text = format!("listen = [{} 9{}]", " ".repeat(500_000), ",9".repeat(200_000));
    assert_eq!(
        report(&text),
        format!(
            "1 mistake
line 1, column 500012
  |
1 | …{}9{}…
  |  {}^
invalid type: integer `9`, expected struct Listen",
            " ".repeat(40),
            ",9".repeat(20).strip_suffix('9').unwrap(),
            " ".repeat(40),
        )
    );
}

#[test]
fn a_huge_value_is_cut_in_its_middle() {
    let text =
        format!("[[listen]]\non = \"unix:/\"\nmax-connections = \"{}\"", "a".repeat(900_000));
    let report = report(&text);
    assert!(report.len() < 1000, "{report}");
    assert!(report.ends_with("a\", expected a whole number"), "{report}");
}

#[test]
fn the_caret_stands_under_its_character_whatever_comes_before() {
    assert_eq!(
        report("listen = [ \"é→𝄞\", \t9 ]"),
        "1 mistake
line 1, column 12
  |
1 | listen = [ \"é→𝄞\",  9 ]
  |            ^^^^^
invalid type: string \"é→𝄞\", expected struct Listen"
    );
    assert_eq!(
        report("listen = [ { on = 'unix:/é→𝄞', \tport = 9 } ]"),
        "1 mistake
line 1, column 33
  |
1 | listen = [ { on = 'unix:/é→𝄞',  port = 9 } ]
  |                                 ^^^^
unknown key `port`; write `ports`"
    );
}

#[test]
fn a_terminal_is_not_at_the_mercy_of_the_file() {
    assert_eq!(
        report("[[listen]]\n\"\\u001b[2J\u{202e}\" = 1"),
        "1 mistake
line 2, column 1
  |
2 | \"\\u001b[2J\\u{202e}\" = 1
  | ^^^^^^^^^^^^^^^^^^^
unknown key `\\u{1b}[2J\\u{202e}`, expected one of `on`, `max-connections`, `ports`"
    );
    assert!(!report("listen = \"\u{1b}[2J\"").contains('\u{1b}'));
}

#[test]
fn mistakes_beyond_number_are_counted() {
    let report = report(&"[[listen]]\non = \"vsock:3:1\"\n".repeat(1000));
    assert!(report.starts_with("999 mistakes\nline 4,"), "{report}");
    assert!(report.ends_with("\n\nand 979 more"), "{report}");
}

#[test]
fn a_mistake_can_be_logged_on_one_line() {
    let report = parse::<File, Config>("[[listen]]\non = 1\n").unwrap_err();
    let lines: Vec<_> = report.iter().map(|one| (one.line(), one.message())).collect();
    assert_eq!(lines, [(Some(2), "invalid type: integer `1`, expected a string")]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("outproxy.toml");
    for (path, kind) in
        [(missing.as_path(), io::ErrorKind::NotFound), (dir.path(), io::ErrorKind::IsADirectory)]
    {
        let error = load::<File, Config>(path).unwrap_err();
        assert_eq!(error.to_string(), format!("failed to read `{}`", path.display()));
        let ConfigError::Read { source, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(source.kind(), kind);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn a_file_that_may_not_be_read_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(file.path()).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    let error = load::<File, Config>(file.path()).unwrap_err();
    let ConfigError::Read { source, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_with_the_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, b"# ok\n# \xff\n").unwrap();
    assert_eq!(
        load::<File, Config>(file.path()).unwrap_err().to_string(),
        format!(
            "failed to read `{}`: line 2 is not UTF-8; save the file as UTF-8",
            file.path().display()
        )
    );
}

#[test]
fn a_file_of_10_mb_is_refused_before_it_is_parsed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // Not TOML: if it were parsed, the error would say so.
    file.as_file().set_len(10_000_000).unwrap();
    assert_eq!(
        load::<File, Config>(file.path()).unwrap_err().to_string(),
        format!(
            "failed to read `{}`: it is larger than 1048576 bytes, so it is hardly a configuration",
            file.path().display()
        )
    );
    file.as_file().set_len(MAX_FILE_BYTES as u64).unwrap();
    let error = load::<File, Config>(file.path()).unwrap_err();
    assert!(matches!(error, ConfigError::Mistakes { .. }), "{error:?}");
}

#[test]
fn deep_nesting_is_a_mistake_and_no_stack_overflow() {
    let report = report(&format!("listen = {}", "[".repeat(MAX_FILE_BYTES - 100)));
    assert!(report.contains("line 1, column"), "{report}");
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_reported_on_short_lines(
        text in "(\\PC|[\\n\\t\u{1b}]|\\[\\[listen\\]\\]\n|on *= *|\"vsock:[0-9]:[0-9]\"){0,20}",
    ) {
        if let Err(report) = parse::<File, Config>(&text) {
            for line in report.to_string().lines() {
                prop_assert!(line.chars().count() < 500, "{}", line);
                prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
            }
        }
    }
}
