use aws_sdk_secretsmanager::primitives::Blob;

use super::*;

fn refusal(json: &str) -> ContentError {
    pin(json.as_bytes()).unwrap_err()
}

#[test]
fn user_and_password_become_the_pin() {
    let cases = [
        r#"{"HSM_USER":"cu","HSM_PASSWORD":"pass"}"#,
        r#" {"HSM_PASSWORD":"pass","note":{"a":[1]},"HSM_USER":"c\u0075"} "#,
    ];
    for json in cases {
        assert_eq!(pin(json.as_bytes()).unwrap().expose(), "cu:pass");
    }
}

#[test]
fn a_password_may_have_colons() {
    let json = r#"{"HSM_USER":"cu","HSM_PASSWORD":":a:b"}"#;
    assert_eq!(pin(json.as_bytes()).unwrap().expose(), "cu::a:b");
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(refusal(r#"{"HSM_PASSWORD":"p"}"#), ContentError::Missing { name: "HSM_USER" });
    assert_eq!(refusal(r#"{"HSM_USER":"u"}"#), ContentError::Missing { name: "HSM_PASSWORD" });
    assert_eq!(
        refusal(r#"{"HSM_USER":null,"HSM_PASSWORD":"p"}"#),
        ContentError::Missing { name: "HSM_USER" }
    );
}

#[test]
fn what_cannot_be_right_is_not_tried_with_the_hsm() {
    let long = "x".repeat(256);
    let cases = [
        ("", "p", ContentError::Empty { name: "HSM_USER" }),
        ("u", "", ContentError::Empty { name: "HSM_PASSWORD" }),
        ("u:v", "p", ContentError::Colon),
        ("u", r"p\n", ContentError::Control { name: "HSM_PASSWORD" }),
        (&long, "p", ContentError::Long { name: "HSM_USER" }),
        ("u", &long, ContentError::Long { name: "HSM_PASSWORD" }),
    ];
    for (user, password, error) in cases {
        let json = format!(r#"{{"HSM_USER":"{user}","HSM_PASSWORD":"{password}"}}"#);
        assert_eq!(refusal(&json), error);
    }
}

#[test]
fn no_refusal_repeats_the_content() {
    let cases = [
        r#"{"HSM_USER":"u","HSM_PASSWORD":987654}"#,
        r#"{"HSM_USER":"u","HSM_PASSWORD":["987654"]}"#,
        r#"{"HSM_USER":"u","HSM_PASSWORD":"987654","HSM_PASSWORD":"987654"}"#,
        r#"{"HSM_USER":"u","HSM_PASSWORD":"987654"#,
        r#"{"HSM_USER":"u","HSM_PASSWORD":"987654"} 987654"#,
        r#"["u","987654"]"#,
        r#""987654""#,
        "987654",
        "",
    ];
    for json in cases {
        let refusal = refusal(json);
        assert!(!format!("{refusal} {refusal:?}").contains("987654"), "{refusal:?}");
    }
}

#[test]
fn a_secret_is_text_or_binary() {
    let json = r#"{"HSM_USER":"cu","HSM_PASSWORD":"pass"}"#;
    let output = GetSecretValueOutput::builder().version_id("v");
    for output in [output.clone().secret_string(json), output.secret_binary(Blob::new(json))] {
        let secret = secret("id", output.build()).unwrap();
        assert_eq!((secret.id.as_str(), secret.version.as_str()), ("id", "v"));
        assert_eq!(secret.pin.expose(), "cu:pass");
    }
}

#[test]
fn a_secret_without_value_or_version_is_refused() {
    let value = r#"{"HSM_USER":"cu","HSM_PASSWORD":"pass"}"#;
    let output = GetSecretValueOutput::builder();
    let cases = [
        (output.clone().version_id("v"), ContentError::Absent),
        (output.clone().secret_string(value), ContentError::Version),
        (output.secret_string(value).version_id(""), ContentError::Version),
    ];
    for (output, error) in cases {
        assert_eq!(secret("id", output.build()).unwrap_err(), error);
    }
}
