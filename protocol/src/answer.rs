//! What enclave-app answers in our own form.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::action::Outcome;
use crate::encode::encode;
use crate::frame::MAX_BYTES;
use crate::malformed::Malformed;
use crate::members::Members;
use crate::request::Request;

/// An answer: `{"id", "action", "result", "duration-ms"}`, or `{"id", "error", "duration-ms"}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// The request's; nothing if that was not understood.
    pub id: Option<String>,
    /// What came of it.
    #[serde(flatten)]
    pub body: Body,
    /// From the request's last byte to this answer, in milliseconds.
    pub duration_ms: u64,
}

impl Answer {
    /// The content of its frame. One that would not fit says so instead.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        encode(self).unwrap_or_else(|_| {
            let error = Failure::new(
                Code::TooLarge,
                format!("the answer would have more than {MAX_BYTES} bytes; ask for less at once"),
            );
            let body = Body::Failed { error };
            let id = self.id.clone().filter(|id| id.len() <= Request::MAX_ID_BYTES);
            encode(&Self { id, body, duration_ms: self.duration_ms }).unwrap_or_default()
        })
    }

    /// Understands the content of a frame. Members that are not known are ignored.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn parse(content: &[u8]) -> Result<Self, Malformed> {
        let mut members = Members::default();
        members.read(content)?;
        let id = members.take("id")?;
        let duration_ms = members.require("duration-ms")?;
        let body = match members.take("error")? {
            Some(error) => Body::Failed { error },
            None => Body::Done(members.rest()?),
        };
        Ok(Self { id, body, duration_ms })
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// It was done.
    Done(Outcome),
    /// It was not, as far as anybody knows.
    Failed {
        /// Why.
        error: Failure,
    },
}

/// Why something was not done.
#[derive(Clone, Debug, Deserialize, Eq, Error, PartialEq, Serialize)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people: one sentence, without secrets and without the insides of the application.
    pub message: String,
    /// Whether the same request may succeed a little later.
    pub retryable: bool,
}

impl Failure {
    /// A failure with a sentence of its own. Whether it can be retried follows from its code.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: code.is_retryable() }
    }
}

/// The kinds of failures. The set is closed: programs may rely on it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// More than one key has the label.
    Ambiguous,
    /// There are too many requests at present.
    Busy,
    /// The request must bring AWS credentials, and has none.
    CredentialsMissing,
    /// The HSM or its module refused, for a reason of its own.
    HsmError,
    /// The HSM cannot be reached, or its module hangs. Whether the action was done is not known.
    HsmUnavailable,
    /// A mistake of enclave-app.
    Internal,
    /// The request is not what it should be.
    InvalidRequest,
    /// A key with this label exists, and has other attributes.
    KeyDiffers,
    /// The HSM refuses the password of the secret.
    LoginRefused,
    /// The ciphertext, its key or what was authenticated beside it is not that of the encryption.
    NotAuthentic,
    /// There is no key with this label.
    NotFound,
    /// The key may not be used so.
    NotPermitted,
    /// Secrets Manager does not give the secret.
    SecretUnavailable,
    /// It took too long. Whether the action was done is not known.
    TimedOut,
    /// The request or its answer is larger than 64 KiB.
    TooLarge,
    /// There is no such action.
    UnknownAction,
    /// This HSM, or this machine, cannot do that.
    Unsupported,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 17] = [
        Self::Ambiguous,
        Self::Busy,
        Self::CredentialsMissing,
        Self::HsmError,
        Self::HsmUnavailable,
        Self::Internal,
        Self::InvalidRequest,
        Self::KeyDiffers,
        Self::LoginRefused,
        Self::NotAuthentic,
        Self::NotFound,
        Self::NotPermitted,
        Self::SecretUnavailable,
        Self::TimedOut,
        Self::TooLarge,
        Self::UnknownAction,
        Self::Unsupported,
    ];

    /// Whether the same request may succeed a little later.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Busy
                | Self::HsmError
                | Self::HsmUnavailable
                | Self::SecretUnavailable
                | Self::TimedOut
        )
    }

    /// The name that it has in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ambiguous => "ambiguous",
            Self::Busy => "busy",
            Self::CredentialsMissing => "credentials-missing",
            Self::HsmError => "hsm-error",
            Self::HsmUnavailable => "hsm-unavailable",
            Self::Internal => "internal",
            Self::InvalidRequest => "invalid-request",
            Self::KeyDiffers => "key-differs",
            Self::LoginRefused => "login-refused",
            Self::NotAuthentic => "not-authentic",
            Self::NotFound => "not-found",
            Self::NotPermitted => "not-permitted",
            Self::SecretUnavailable => "secret-unavailable",
            Self::TimedOut => "timed-out",
            Self::TooLarge => "too-large",
            Self::UnknownAction => "unknown-action",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
