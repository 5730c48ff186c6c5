//! Values of enclave-app.toml that cannot be wrong.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tunnel::host::Clamped;
use tunnel::limits;

/// The name or ARN of a secret.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct SecretId(String);

impl TryFrom<String> for SecretId {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let fits = (1..=SECRET_ID_BYTES).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(ValueError::SecretId(text.as_str().into()))
        }
    }
}

impl From<SecretId> for String {
    fn from(id: SecretId) -> Self {
        id.0
    }
}

/// Whose credentials are taken.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialsFrom {
    /// What the AWS SDK finds in the environment.
    Environment,
    /// The role of the parent instance.
    Imds,
    /// What the request brings.
    #[default]
    Request,
}

/// An AWS region. It becomes a part of a host's name.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Region(String);

impl TryFrom<String> for Region {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_delimited = !text.starts_with('-') && !text.ends_with('-');
        if (1..=REGION_BYTES).contains(&text.len()) && is_delimited && text.bytes().all(is_allowed)
        {
            Ok(Self(text))
        } else {
            Err(ValueError::Region(text.as_str().into()))
        }
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

/// A path that means the same wherever the application is started.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Cow<'_, str>")]
pub(super) struct AbsolutePath(PathBuf);

impl TryFrom<Cow<'_, str>> for AbsolutePath {
    type Error = ValueError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, ValueError> {
        if Path::new(&*text).is_absolute() && !text.contains('\0') {
            Ok(Self(text.into_owned().into()))
        } else {
            Err(ValueError::Path(text.as_ref().into()))
        }
    }
}

impl From<AbsolutePath> for PathBuf {
    fn from(path: AbsolutePath) -> Self {
        path.0
    }
}

/// The label of a token. PKCS#11 has room for 32 bytes, which it pads with blanks.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct TokenLabel(String);

impl TryFrom<String> for TokenLabel {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let fits = (1..=TOKEN_LABEL_BYTES).contains(&text.len());
        if fits && !text.ends_with(' ') && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err(ValueError::TokenLabel(text.as_str().into()))
        }
    }
}

impl From<TokenLabel> for String {
    fn from(label: TokenLabel) -> Self {
        label.0
    }
}

/// A number of sessions.
#[derive(Debug, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Sessions(usize);

impl TryFrom<i64> for Sessions {
    type Error = ValueError;

    fn try_from(number: i64) -> Result<Self, ValueError> {
        usize::try_from(number)
            .ok()
            .filter(|number| (1..=MAX_SESSIONS).contains(number))
            .map(Self)
            .ok_or(ValueError::Sessions(number))
    }
}

impl From<Sessions> for usize {
    fn from(sessions: Sessions) -> Self {
        sessions.0
    }
}

/// A time as [`limits::time`] takes it, which can have a place.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Time(#[serde(deserialize_with = "limits::time")] pub(super) Duration);

#[derive(Debug, Error)]
pub(super) enum ValueError {
    #[error("`{0}` is not an absolute path; write one that begins with `/`")]
    Path(Clamped),
    #[error("`{0}` is not a region; write it as in `ap-southeast-1`")]
    Region(Clamped),
    #[error("`{0}` is not a secret; write its name or its ARN")]
    SecretId(Clamped),
    #[error("`{0}` sessions are out of range; write a number from 1 to {MAX_SESSIONS}")]
    Sessions(i64),
    #[error(
        "`{0}` is not the label of a token; write up to {TOKEN_LABEL_BYTES} bytes without \
         control characters, and without the blanks at its end"
    )]
    TokenLabel(Clamped),
}

/// The longest ARN or name that Secrets Manager takes.
const SECRET_ID_BYTES: usize = 2048;
/// The longest label in a host's name; see RFC 1035 section 2.3.1.
const REGION_BYTES: usize = 63;
/// CK_TOKEN_INFO of PKCS#11.
const TOKEN_LABEL_BYTES: usize = 32;
const MAX_SESSIONS: usize = 64;
