//! Why a name has no address.

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::{DnsError as ResponseError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use thiserror::Error;
use tunnel::host::DnsName;

/// Why there is no address of a name, in one family or in both.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum DnsError {
    /// There was no answer that could be used, for a reason other than time.
    #[error("failed to resolve `{name}`")]
    Failed {
        /// The name.
        name: DnsName,
        /// What happened.
        source: Arc<NetError>,
    },
    /// The name exists, but has no address (RFC 2308 section 2.2: NODATA).
    #[error("`{0}` has no address")]
    NoAddress(DnsName),
    /// The name does not exist (RFC 2308 section 2.1: NXDOMAIN).
    #[error("`{0}` does not exist")]
    NotFound(DnsName),
    /// No name server answered in time.
    #[error("no name server told the address of `{name}` within {after:?}")]
    TimedOut {
        /// The name.
        name: DnsName,
        /// How long was waited.
        after: Duration,
    },
}

impl DnsError {
    pub(crate) fn failed(name: &DnsName, source: impl Into<NetError>) -> Self {
        Self::Failed { name: name.clone(), source: Arc::new(source.into()) }
    }

    /// What the name server said, as `rcode` of a `Proxy-Status` (RFC 9209 section 2.3.2).
    #[must_use]
    pub fn rcode(&self) -> Option<&'static str> {
        match self {
            Self::Failed { source, .. } => match &**source {
                NetError::Dns(ResponseError::ResponseCode(code)) => mnemonic(*code),
                _ => None,
            },
            Self::NoAddress(_) => Some("NOERROR"),
            Self::NotFound(_) => Some("NXDOMAIN"),
            Self::TimedOut { .. } => None,
        }
    }

    /// The greater, the more it says about the name when its two families failed differently.
    ///
    /// That it does not exist holds for both. That it has no address in one family says nothing
    /// when nobody could tell for the other.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::NotFound(_) => 3,
            Self::Failed { .. } => 2,
            Self::TimedOut { .. } => 1,
            Self::NoAddress(_) => 0,
        }
    }
}

/// The name in IANA's registry of DNS RCODEs.
fn mnemonic(code: ResponseCode) -> Option<&'static str> {
    match code {
        ResponseCode::FormErr => Some("FORMERR"),
        ResponseCode::ServFail => Some("SERVFAIL"),
        ResponseCode::NotImp => Some("NOTIMP"),
        ResponseCode::Refused => Some("REFUSED"),
        ResponseCode::NotAuth => Some("NOTAUTH"),
        _ => None,
    }
}
