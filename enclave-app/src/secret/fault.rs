//! What is wrong when Secrets Manager does not give a secret, in words for whoever asked.
//!
//! The service's own texts are left out: that of a signature error repeats the request's headers,
//! with the session token among them.

use std::error::Error;
use std::io;

use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use protocol::answer::{Code, Failure};
use protocol::request::SecretName;

use super::client::{BUDGET, NoTls};

/// Why a secret was not fetched, and whom that concerns.
#[derive(Debug)]
pub(super) enum Fault {
    /// This request. Another one, with other credentials, may fare better.
    Request(Failure),
    /// Every request at present.
    Service(Failure),
}

impl Fault {
    /// Of this request; it may as well not be repeated.
    pub(super) fn request(code: Code, message: impl Into<String>) -> Self {
        Self::Request(Failure { retryable: false, ..Failure::new(code, message) })
    }

    /// Of every request, until somebody mends something.
    pub(super) fn lasting(message: impl Into<String>) -> Self {
        Self::Service(Failure {
            retryable: false,
            ..Failure::new(Code::SecretUnavailable, message)
        })
    }

    /// Of every request, for a while.
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self::Service(Failure { retryable: true, ..Failure::new(Code::SecretUnavailable, message) })
    }

    /// The same, of every request: they all use the same credentials.
    pub(super) fn of_all(self) -> Self {
        match self {
            Self::Request(failure) | Self::Service(failure) => Self::Service(failure),
        }
    }

    /// What the SDK reports about a GetSecretValue.
    pub(super) fn from_sdk(name: &SecretName, error: &SdkError<GetSecretValueError>) -> Self {
        if let SdkError::ServiceError(refusal) = error {
            let status = refusal.raw().status().as_u16();
            return refused(name, status, refusal.err().code().unwrap_or_default());
        }
        if let Some(error) = chain(error).find_map(|error| error.downcast_ref::<rustls::Error>()) {
            return untrusted(error);
        }
        if chain(error).any(<dyn Error>::is::<NoTls>) {
            return Self::lasting(format!("Secrets Manager is not asked: {NoTls}"));
        }
        let timed_out = match error {
            SdkError::TimeoutError(_) => true,
            SdkError::DispatchFailure(failure) => failure.is_timeout(),
            _ => false,
        };
        if timed_out {
            return Self::passing(format!(
                "Secrets Manager did not answer within {} s",
                BUDGET.as_secs()
            ));
        }
        match error {
            SdkError::DispatchFailure(failure) if !failure.is_user() => {
                Self::passing(format!("cannot reach Secrets Manager: {}", reason(error)))
            }
            SdkError::ResponseError(_) => {
                Self::passing("the answer of Secrets Manager was not understood")
            }
            _ => Self::lasting(format!(
                "no request to Secrets Manager can be made for region `{}`",
                name.region
            )),
        }
    }
}

/// Secrets Manager has answered with an error.
fn refused(name: &SecretName, status: u16, code: &str) -> Fault {
    // It is the service's word: it must not be able to fill the answer, nor forge a line.
    let plain =
        code.len() <= MAX_CODE_BYTES && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let cause = if plain && !code.is_empty() { code } else { "an error of its own" };
    if status >= 500 || status == 429 || THROTTLING.contains(&code) {
        return Fault::passing(format!(
            "Secrets Manager is not able to answer at present ({cause})"
        ));
    }
    let message = match code {
        "ResourceNotFoundException" => {
            format!("there is no secret `{}` in region `{}`", name.id, name.region)
        }
        "AccessDeniedException"
        | "ExpiredTokenException"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "UnrecognizedClientException" => {
            format!("Secrets Manager refuses these credentials ({cause})")
        }
        _ => format!("Secrets Manager does not give the secret `{}` ({cause})", name.id),
    };
    Fault::request(Code::SecretUnavailable, message)
}

fn untrusted(error: &rustls::Error) -> Fault {
    match error {
        rustls::Error::InvalidCertificate(cause) => {
            Fault::lasting(format!("the certificate of Secrets Manager is not trusted: {cause}"))
        }
        _ => Fault::lasting(format!("no TLS with Secrets Manager: {error}")),
    }
}

/// The innermost cause, which is the system's errno where there is one.
fn reason(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

/// The error and its causes.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let cause = |error: &'a (dyn Error + 'static)| {
        // The source of an `io::Error` that wraps another error is that one's source: it would be
        // skipped itself.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &'a (dyn Error + 'static)),
            None => error.source(),
        }
    };
    std::iter::successors(Some(error), move |error| cause(*error))
}

/// The names of errors are about 30 bytes long.
const MAX_CODE_BYTES: usize = 64;

/// What AWS services answer, with status 400, when they are asked too often.
const THROTTLING: [&str; 4] =
    ["LimitExceededException", "RequestLimitExceeded", "Throttling", "ThrottlingException"];
