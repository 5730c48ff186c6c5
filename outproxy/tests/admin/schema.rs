//! `/status` is what docs/status.schema.json says.
//!
//! The schema allows no member that it does not list, anywhere: whoever adds one to
//! `outproxy::status` adds it there, in `properties` and in `required`, and says what it means.

use std::fs;

use boon::{Compiler, Schemas};
use serde_json::{Value, json};

use crate::catalogue::busy;
use crate::process::Place;
use crate::{ADMIN, LISTEN, status};

#[test]
fn the_status_is_what_the_schema_says() {
    let place = Place::new();
    place.configure(&format!("{LISTEN}{ADMIN}"));
    let outproxy = place.serve();
    assert_valid(&status(&place));
    drop(outproxy);

    let outproxy = busy(&place);
    assert_valid(&status(&place));
    let listeners = "[[listen]]\non = 'unix:DIR/raw'\nto = '127.0.0.1:9'\n";
    let rule = "[[allow]]\nname = 'raw'\nhosts = ['127.0.0.1']\nports = [9]\n";
    for (config, words) in [
        (format!("{LISTEN}{listeners}{ADMIN}{rule}"), "reloaded"),
        ("oops".into(), "failed to reload"),
    ] {
        place.configure(&config);
        outproxy.hang_up();
        outproxy.await_line(words);
        assert_valid(&status(&place));
    }
}

#[test]
fn the_schema_lists_every_member_and_says_what_it_means() {
    let schema = schema();
    assert_strict("", &schema);
    let place = Place::new();
    let _outproxy = busy(&place);
    let mut more = status(&place);
    more["secrets"] = json!({});
    assert!(validate(&more).is_err(), "a member that nobody knows is allowed");
    let mut less = status(&place);
    less.as_object_mut().unwrap().remove("rules");
    assert!(validate(&less).is_err(), "a member that is missing is allowed");
}

fn assert_strict(path: &str, schema: &Value) {
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], false, "{path}");
        let mut required: Vec<_> = schema["required"].as_array().unwrap().iter().collect();
        required.sort_unstable_by_key(|name| name.as_str());
        assert!(properties.keys().eq(required.iter().copied()), "{path}: {required:?}");
        for (name, member) in properties {
            let path = format!("{path}/{name}");
            assert!(member["description"].is_string(), "{path}");
            assert_strict(&path, member);
        }
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            assert_strict(&format!("{path}/{key}"), &schema[key]);
        }
    }
}

fn assert_valid(status: &Value) {
    validate(status).unwrap_or_else(|error| panic!("{error}: {status:#}"));
}

fn validate(status: &Value) -> Result<(), String> {
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    compiler.add_resource(FILE, schema()).unwrap();
    let index = compiler.compile(FILE, &mut schemas).unwrap();
    schemas.validate(status, index).map_err(|error| error.to_string())
}

fn schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status.schema.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

const FILE: &str = "status.schema.json";
