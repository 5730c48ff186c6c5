//! Which secret a request is about.

use protocol::answer::{Code, Failure};
use protocol::request::SecretName;
use thiserror::Error;

/// The configured secret, or else the one that the request names.
pub(super) fn choose<'a>(
    configured: Option<&'a SecretName>,
    asked: Option<&'a SecretName>,
) -> Result<&'a SecretName, Failure> {
    match (configured, asked) {
        (Some(configured), Some(asked)) if asked != configured => Err(Failure::new(
            Code::InvalidRequest,
            "the request names another secret than the configuration of enclave-app",
        )),
        (Some(configured), _) => Ok(configured),
        (None, Some(asked)) => match check_name(asked) {
            Ok(()) => Ok(asked),
            Err(error) => Err(Failure::new(Code::InvalidRequest, error.to_string())),
        },
        (None, None) => Err(Failure::new(
            Code::InvalidRequest,
            "neither the request nor the configuration of enclave-app names a secret",
        )),
    }
}

/// Whether a secret can have this name.
///
/// # Errors
///
/// [`InvalidName`] says what is wrong.
pub fn check_name(name: &SecretName) -> Result<(), InvalidName> {
    if name.id.is_empty() || name.id.len() > MAX_ID_BYTES {
        Err(InvalidName::Length)
    } else if name.id.chars().any(char::is_control) {
        Err(InvalidName::Control)
    } else if !is_region(&name.region) {
        Err(InvalidName::Region)
    } else {
        Ok(())
    }
}

/// It becomes a part of the host's name, so that it must not contain another host's.
fn is_region(text: &str) -> bool {
    let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_REGION_BYTES).contains(&text.len())
        && text.bytes().all(label)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A secret cannot have this name.
#[derive(Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidName {
    /// It could forge a line of a log.
    #[error("the id of a secret has no control characters")]
    Control,
    /// It is empty or too long.
    #[error("the id of a secret has 1 to {MAX_ID_BYTES} bytes")]
    Length,
    /// It would not be a part of a host's name.
    #[error("a region has lower-case letters, digits and hyphens, as in `ap-southeast-1`")]
    Region,
}

/// What GetSecretValue allows for SecretId.
const MAX_ID_BYTES: usize = 2048;

/// A label of a host's name is not longer (RFC 1035 section 2.3.4).
const MAX_REGION_BYTES: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str, region: &str) -> SecretName {
        SecretName { id: id.to_owned(), region: region.to_owned() }
    }

    #[test]
    fn the_configured_secret_is_taken_if_the_request_names_none_or_the_same() {
        let configured = name("cloudhsm/cluster-1", "ap-southeast-1");
        assert_eq!(choose(Some(&configured), None), Ok(&configured));
        assert_eq!(choose(Some(&configured), Some(&configured.clone())), Ok(&configured));
    }

    #[test]
    fn a_request_cannot_ask_for_another_secret_than_the_configured_one() {
        let configured = name("cloudhsm/cluster-1", "ap-southeast-1");
        for other in [name("cloudhsm/cluster-2", "ap-southeast-1"), name("cloudhsm/cluster-1", "x")]
        {
            let failure = choose(Some(&configured), Some(&other)).unwrap_err();
            assert_eq!(failure.code, Code::InvalidRequest);
        }
    }

    #[test]
    fn without_any_name_the_failure_says_so() {
        let failure = choose(None, None).unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest);
        assert!(failure.message.contains("names a secret"), "{failure}");
    }

    #[test]
    fn a_region_cannot_lead_to_another_host() {
        for region in ["", "evil.example/", "x@evil.example", "a.b", "-a", "a-", "EU", "a b", "é"]
        {
            assert_eq!(check_name(&name("x", region)), Err(InvalidName::Region), "{region}");
        }
        for region in ["ap-southeast-1", "us-gov-west-1", "cn-north-1"] {
            assert_eq!(check_name(&name("x", region)), Ok(()), "{region}");
        }
    }

    #[test]
    fn an_id_cannot_be_empty_nor_too_long_nor_forge_a_line() {
        let long = "x".repeat(2049);
        assert_eq!(check_name(&name("", "a")), Err(InvalidName::Length));
        assert_eq!(check_name(&name(&long, "a")), Err(InvalidName::Length));
        assert_eq!(check_name(&name(&long[1..], "a")), Ok(()));
        assert_eq!(check_name(&name("a\nb", "a")), Err(InvalidName::Control));
        let arn = "arn:aws:secretsmanager:ap-southeast-1:111122223333:secret:cloudhsm/c-Ab1";
        assert_eq!(check_name(&name(arn, "ap-southeast-1")), Ok(()));
    }
}
