//! How a run can end.

use std::io;
use std::process::ExitCode;

use protocol::answer::Failure;
use protocol::encode::TooLarge;
use protocol::malformed::Malformed;
use serde::Serialize;
use thiserror::Error;
use tunnel::chain::Chain;
use tunnel::endpoint::Endpoint;

use crate::credentials::CredentialsError;
use crate::exchange::ExchangeError;
use crate::files::FileError;

/// What came of a request that was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// What was wanted.
    Done,
    /// Something else, of which the user knows.
    Refused,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Done => Self::SUCCESS,
            Verdict::Refused => Self::from(REFUSED),
        }
    }
}

/// Why there is no answer, or no use of it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AskError {
    /// There are no credentials to send along.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There is no answer.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The answer makes no sense.
    #[error("failed to understand the answer of `{endpoint}`")]
    Malformed {
        /// Whose.
        endpoint: Endpoint,
        /// Why.
        source: Malformed,
    },
    /// The answer is to something else.
    #[error("`{endpoint}` answers something else than was asked: {what}")]
    Mismatch {
        /// Who.
        endpoint: Endpoint,
        /// In which way.
        what: &'static str,
    },
    /// The machine lacks something.
    #[error("failed to start")]
    Runtime(#[source] io::Error),
    /// The request does not fit in a frame.
    #[error("the request is too large")]
    TooLarge(#[from] TooLarge),
}

impl AskError {
    /// The exit status.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Credentials(_) | Self::File(_) | Self::Runtime(_) | Self::TooLarge(_) => LOCAL,
            Self::Exchange(_) | Self::Malformed { .. } | Self::Mismatch { .. } => NO_ANSWER,
        })
    }

    /// For people: what happened, and what to do.
    #[must_use]
    pub fn explain(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{}\n  {advice}", Chain(self)),
            None => Chain(self).to_string(),
        }
    }

    /// For programs: an object that looks as a failure of the application does.
    #[must_use]
    pub fn to_json(&self, id: &str) -> String {
        let (code, retryable) = self.code();
        let message = Chain(self).to_string();
        let error = LocalFailure { code, message, retryable };
        // Text, numbers and truth values can always be written.
        serde_json::to_string(&LocalAnswer { id, error }).unwrap_or_default()
    }

    /// Beside those of the application, and whether another try may succeed.
    const fn code(&self) -> (&'static str, bool) {
        match self {
            Self::Credentials(_) => ("credentials-unavailable", true),
            Self::Exchange(ExchangeError::Connect { .. }) => ("unreachable", true),
            Self::Exchange(ExchangeError::Ended { .. } | ExchangeError::Late { .. }) => {
                ("no-answer", true)
            }
            Self::Exchange(ExchangeError::Broken { .. })
            | Self::Malformed { .. }
            | Self::Mismatch { .. } => ("broken-answer", false),
            Self::File(_) | Self::Runtime(_) => ("local-error", false),
            Self::TooLarge(_) => ("request-too-large", false),
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Credentials(CredentialsError::Imds(_)) => Some(
                "is this an EC2 instance with an IAM role? `--credentials sdk` looks elsewhere too; \
                 with `--credentials none` the enclave must have its own",
            ),
            Self::Credentials(CredentialsError::Sdk(_)) => Some(
                "`aws sts get-caller-identity` shows what the AWS command finds; with \
                 `--credentials none` the enclave must have its own",
            ),
            Self::Exchange(ExchangeError::Connect { endpoint, source }) => {
                Some(connect_advice(endpoint, source))
            }
            Self::Exchange(_) => Some(
                "whether it was done is not known; it is safe to ask again for a key that may \
                 exist already",
            ),
            Self::Malformed { .. } | Self::Mismatch { .. } => {
                Some("does enclave-app listen there? an enclave of the Java sample needs --compat")
            }
            Self::TooLarge(_) => {
                Some("for large data, encrypt a key of your own in the HSM, and the data with that")
            }
            Self::File(_) | Self::Runtime(_) => None,
        }
    }
}

/// What the application refuses, for people.
#[must_use]
pub fn explain_refusal(failure: &Failure) -> String {
    let again =
        if failure.retryable { "it may succeed later" } else { "trying again will not help" };
    format!("{} ({}; {again})", crate::text::printable(&failure.message), failure.code)
}

/// V sockets have errors of their own for what TCP calls refused, unreachable and unsupported.
fn connect_advice(endpoint: &Endpoint, error: &io::Error) -> &'static str {
    let Endpoint::Vsock { .. } = endpoint else {
        return "does enclave-app listen there? --wait keeps trying for a while";
    };
    match error.kind() {
        io::ErrorKind::ConnectionReset => {
            "nothing listens on this port of this enclave: enclave-app has not started yet \
             (--wait keeps trying for a while), or has ended"
        }
        io::ErrorKind::TimedOut => {
            "is the enclave running? `nitro-cli describe-enclaves` shows its CID, which is the \
             first number of the endpoint"
        }
        _ => {
            "is this the parent instance, and has it vsock? is the enclave running? \
             `nitro-cli describe-enclaves` shows its CID"
        }
    }
}

#[derive(Serialize)]
struct LocalAnswer<'a> {
    id: &'a str,
    error: LocalFailure,
}

#[derive(Serialize)]
struct LocalFailure {
    code: &'static str,
    message: String,
    retryable: bool,
}

const LOCAL: u8 = 4;
const NO_ANSWER: u8 = 3;
const REFUSED: u8 = 1;
