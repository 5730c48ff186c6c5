//! What serde says, in the words of those who write the file.

use crate::host::Clamped;

/// Serde speaks of fields, sequences and `i64`; a file has keys, arrays and whole numbers.
pub(super) fn of_operators(message: &str) -> String {
    if let Some(key) = message.strip_prefix("missing field ") {
        return format!("missing key {key}");
    }
    if let Some(unknown) = unknown_key(message) {
        return unknown;
    }
    for (serde, operators) in [
        ("expected a duration", "expected a duration such as \"5s\""),
        ("expected a sequence", "expected an array"),
        ("expected i64", "expected a whole number"),
    ] {
        if let Some(found) = message.strip_suffix(serde) {
            return format!("{found}{operators}");
        }
    }
    message.into()
}

fn unknown_key(message: &str) -> Option<String> {
    // A key may itself contain the words that follow it, so they are looked for from the right.
    let (key, known) = message.strip_prefix("unknown field `")?.rsplit_once("`, expected ")?;
    let nearest = known
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let key = Clamped::from(key);
    Some(match nearest {
        Some((_, name)) => format!("unknown key `{key}`; write `{name}`"),
        None => format!("unknown key `{key}`, expected {known}"),
    })
}

/// From here on, two keys are taken for the same word (0: nothing in common, 1: equal).
const SIMILAR: f64 = 0.8;
