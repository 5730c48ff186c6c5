//! What is in the secret: `{"HSM_USER", "HSM_PASSWORD"}`.
//!
//! No error shows any of it, nor what serde says of it: that repeats a wrong value.

use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use serde::Deserialize;
use serde_json::error::Category;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::pin::{Pin, Secret};

/// The secret that Secrets Manager has answered with, under the `id` that was asked for.
pub(super) fn secret(id: &str, output: GetSecretValueOutput) -> Result<Secret, ContentError> {
    // First of all: what follows may return.
    let text = output.secret_string.map(|text| Zeroizing::new(text.into_bytes()));
    let bytes = text.or_else(|| Some(Zeroizing::new(output.secret_binary?.into_inner())));
    let version = output.version_id.filter(|version| !version.is_empty());
    Ok(Secret {
        id: id.to_owned(),
        pin: pin(&bytes.ok_or(ContentError::Absent)?)?,
        version: version.ok_or(ContentError::Version)?,
    })
}

fn pin(json: &[u8]) -> Result<Pin, ContentError> {
    // serde would take an array, too.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(ContentError::Object);
    }
    let content: Content =
        serde_json::from_slice(json).map_err(|error| match error.classify() {
            Category::Data => ContentError::Texts,
            _ => ContentError::Json { line: error.line(), column: error.column() },
        })?;
    let user = part("HSM_USER", content.user)?;
    let password = part("HSM_PASSWORD", content.password)?;
    if user.contains(':') {
        return Err(ContentError::Colon);
    }
    // Of the right size at once: when a string grows, it leaves a copy behind.
    let mut pin = Zeroizing::new(String::with_capacity(user.len() + 1 + password.len()));
    pin.push_str(&user);
    pin.push(':');
    pin.push_str(&password);
    Ok(Pin::new(pin))
}

/// Refuses what cannot be right before the HSM counts it as a wrong password.
fn part(
    name: &'static str,
    text: Option<Zeroizing<String>>,
) -> Result<Zeroizing<String>, ContentError> {
    let text = text.ok_or(ContentError::Missing { name })?;
    if text.is_empty() {
        Err(ContentError::Empty { name })
    } else if text.len() > MAX_BYTES {
        Err(ContentError::Long { name })
    } else if text.chars().any(char::is_control) {
        Err(ContentError::Control { name })
    } else {
        Ok(text)
    }
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "HSM_USER")]
    user: Option<Zeroizing<String>>,
    #[serde(rename = "HSM_PASSWORD")]
    password: Option<Zeroizing<String>>,
}

/// Why a secret opens no HSM; it continues "the secret `x` ".
#[derive(Debug, Eq, Error, PartialEq)]
pub(super) enum ContentError {
    #[error("has no value")]
    Absent,
    #[error("has a colon in `HSM_USER`, which would end it")]
    Colon,
    #[error("has a control character in `{name}`, such as a line end")]
    Control { name: &'static str },
    #[error("has an empty `{name}`")]
    Empty { name: &'static str },
    #[error("is not JSON: see line {line}, column {column}")]
    Json { line: usize, column: usize },
    #[error("has more than {MAX_BYTES} bytes in `{name}`")]
    Long { name: &'static str },
    #[error("has no `{name}`")]
    Missing { name: &'static str },
    #[error("is not a JSON object with `HSM_USER` and `HSM_PASSWORD`")]
    Object,
    #[error("must have `HSM_USER` and `HSM_PASSWORD` once each, as texts")]
    Texts,
    #[error("came without a VersionId, so that a new version could not be told from it")]
    Version,
}

/// CloudHSM allows 31 bytes for a user and 32 for a password; other tokens allow more.
const MAX_BYTES: usize = 255;

#[cfg(test)]
mod tests;
