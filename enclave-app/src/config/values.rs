//! Values of enclave-app.toml that cannot be wrong.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tunnel::host::Clamped;
use tunnel::limits;

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
    #[error("`{0}` sessions are out of range; write a number from 1 to {MAX_SESSIONS}")]
    Sessions(i64),
    #[error(
        "`{0}` is not the label of a token; write up to {TOKEN_LABEL_BYTES} bytes without \
         control characters, and without the blanks at its end"
    )]
    TokenLabel(Clamped),
}

/// CK_TOKEN_INFO of PKCS#11.
const TOKEN_LABEL_BYTES: usize = 32;
const MAX_SESSIONS: usize = 64;
