//! What opens the HSM.

use std::fmt;
use std::sync::Arc;

use protocol::answer::Failure;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// `user:password`, as CloudHSM's C_Login takes it. It is wiped when dropped, and not shown.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Pin(Zeroizing<String>);

impl Pin {
    /// The PIN of a crypto user.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// It as text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

/// One version of the secret.
#[derive(Debug)]
pub struct Secret {
    /// The name or ARN that it was asked for with.
    pub id: String,
    /// Its VersionId, which is another for each content.
    pub version: String,
    /// What it opens the HSM with.
    pub pin: Pin,
}

/// Where the PIN comes from, for one request.
pub trait PinSource {
    /// The secret as it is known, or else fetched.
    fn current(&self) -> impl Future<Output = Result<Arc<Secret>, Failure>> + Send;

    /// The secret as it is now, asked for anew, because the HSM has refused this version.
    ///
    /// If it was fetched since then, also on behalf of another request, that one will do.
    fn after(&self, refused: &Secret) -> impl Future<Output = Result<Arc<Secret>, Failure>> + Send;
}
