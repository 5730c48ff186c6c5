//! What must not be logged.

use std::ffi::OsStr;

use thiserror::Error;

/// Refuses an environment in which the AWS SDK would log the secret.
///
/// # Errors
///
/// [`SensitiveLogging`] when it is such an environment.
pub fn refuse_sensitive_logging() -> Result<(), SensitiveLogging> {
    refuse(std::env::var_os(VARIABLE).as_deref())
}

/// Whatever its value: who sets it expects to see bodies.
fn refuse(value: Option<&OsStr>) -> Result<(), SensitiveLogging> {
    if value.is_some() { Err(SensitiveLogging) } else { Ok(()) }
}

/// The AWS SDK would log the secret.
#[derive(Debug, Error)]
#[error("`{VARIABLE}` is set, with which the AWS SDK may log the secret; unset it")]
pub struct SensitiveLogging;

const VARIABLE: &str = "LOG_SENSITIVE_BODIES";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_without_the_variable_is_fine() {
        refuse(None).unwrap();
    }

    #[test]
    fn the_variable_is_refused_whatever_its_value() {
        for value in ["true", "TRUE", "false", ""] {
            refuse(Some(OsStr::new(value))).unwrap_err();
        }
    }
}
