//! What enclave-app is asked in our own form.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use zeroize::Zeroizing;

use crate::action::Action;
use crate::answer::Failure;
use crate::encode::{TooLarge, encode};
use crate::malformed::Malformed;
use crate::members::Members;
use crate::message::invalid;

/// A request: `{"id", "action", ...}`, with the members of the action.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Request {
    /// Chosen by who asks, and said again in the answer; at most [`Self::MAX_ID_BYTES`] bytes.
    pub id: String,
    /// What is to be done.
    #[serde(flatten)]
    pub action: Action,
    /// With which the secret is fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// The secret, where the configuration names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretName>,
}

impl Request {
    /// The longest id.
    pub const MAX_ID_BYTES: usize = 128;

    /// The content of its frame.
    ///
    /// # Errors
    ///
    /// [`TooLarge`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, TooLarge> {
        encode(self)
    }

    pub(crate) fn from_members(mut members: Members<'_>) -> Result<Self, Failure> {
        let id: String = members.require("id").map_err(invalid)?;
        if !is_id(&id) {
            return Err(invalid(Malformed::new(format_args!(
                "the member `id` is no text of at most {} bytes without control characters",
                Self::MAX_ID_BYTES
            ))));
        }
        let action: String = members.require("action").map_err(invalid)?;
        let credentials = members.take("credentials").map_err(invalid)?;
        let secret = members.take("secret").map_err(invalid)?;
        Ok(Self { id, action: Action::from_members(&action, members)?, credentials, secret })
    }
}

/// Whether a text can be the id of a request.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() <= Request::MAX_ID_BYTES && !text.contains(char::is_control)
}

/// A secret of Secrets Manager.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecretName {
    /// Its name or ARN; 1 to 2,048 bytes without control characters.
    #[serde(deserialize_with = "secret_id")]
    pub id: String,
    /// The AWS region that it is in; 1 to 64 small letters, digits and hyphens.
    #[serde(deserialize_with = "region")]
    pub region: String,
}

fn secret_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    if id.is_empty() || id.len() > 2048 || id.contains(char::is_control) {
        return Err(de::Error::custom("the id of a secret is its name or its ARN"));
    }
    Ok(id)
}

/// It becomes a part of a host's name.
fn region<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let region = String::deserialize(deserializer)?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if region.is_empty() || region.len() > 64 || !region.chars().all(fits) {
        return Err(de::Error::custom("a region is a name such as `ap-southeast-1`"));
    }
    Ok(region)
}

/// The temporary credentials of a role.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Credentials {
    /// As in AWS_ACCESS_KEY_ID.
    pub access_key_id: Zeroizing<String>,
    /// As in AWS_SECRET_ACCESS_KEY.
    pub secret_access_key: Zeroizing<String>,
    /// As in AWS_SESSION_TOKEN. Credentials of a user have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Zeroizing<String>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}
