//! The documents of the doctors name the same words, and these are the doctors' own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{read, root};

#[test]
fn every_word_of_a_doctor_is_documented_and_every_documented_one_is_a_doctors() {
    let documented = words_of_table();
    let schema: Value = serde_json::from_str(&read("docs/doctor.schema.json")).unwrap();
    for doctor in ["outproxy", "inproxy"] {
        let problem = &schema["$defs"][doctor]["properties"]["problem"]["enum"];
        let words = problem.as_array().unwrap().iter().filter_map(Value::as_str);
        assert_eq!(words.map(String::from).collect::<BTreeSet<_>>(), documented, "{doctor}");
    }
    let mut sources = String::new();
    for place in ["tunnel/src/examination", "outproxy/src/doctor", "inproxy/src/doctor"] {
        collect(&root().join(place), &mut sources);
    }
    for word in &documented {
        assert!(sources.contains(&format!("\"{word}\"")), "no doctor knows `{word}`");
    }
}

/// What stands in backticks in the third column.
fn words_of_table() -> BTreeSet<String> {
    let text = read("docs/DOCTOR.md");
    let (_, table) = text.split_once("|---|---|---|\n").unwrap();
    let cells = table.lines().filter_map(|line| line.split('|').nth(3));
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(String::from).collect::<Vec<_>>())
        .collect()
}

fn collect(place: &Path, text: &mut String) {
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}
