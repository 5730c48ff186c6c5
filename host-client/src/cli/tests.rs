use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_makes_sense() {
    Cli::command().debug_assert();
}

#[test]
fn uses_that_are_not_named_are_not_allowed() {
    let usage = Use::all(&[Use::Sign, Use::Unwrap]).unwrap();
    assert!(usage.sign && usage.unwrap && !usage.verify && !usage.encrypt);
    assert_eq!(Use::all(&[]), None);
}

#[test]
fn hex_digits_come_in_pairs() {
    assert_eq!(hex("00fF"), Ok(vec![0, 255].into()));
    for text in ["0", "0g", "+1", "\u{e9}", &"00".repeat(513)] {
        assert!(hex(text).is_err(), "{text}");
    }
}

#[test]
fn durations_have_units_and_are_not_nothing() {
    assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
    for text in ["0s", "5", "-1s", ""] {
        assert!(duration(text).is_err(), "{text}");
    }
}
