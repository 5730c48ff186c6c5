//! What enclave-app is asked in our own form.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::action::Action;

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
}

/// A secret of Secrets Manager.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecretName {
    /// Its name or ARN.
    pub id: String,
    /// The AWS region that it is in.
    pub region: String,
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
