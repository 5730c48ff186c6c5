//! Endpoints: `tcp:<host>:<port>`, `vsock:<cid>:<port>` and `unix:<path>`.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

use crate::destination::{Destination, DestinationError};
use crate::host::Clamped;

/// Something to listen on or to connect to.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "Cow<'_, str>")]
pub enum Endpoint {
    /// `tcp:<host>:<port>`.
    Tcp(Destination),
    /// `unix:<path>`, for development, tests and VMMs that show vsock as Unix sockets.
    Unix(PathBuf),
    /// `vsock:<cid>:<port>`, see vsock(7).
    Vsock {
        /// The virtual machine.
        cid: Cid,
        /// The port in it.
        port: VsockPort,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| EndpointError::Kind(text.into()))?;
        match kind {
            "tcp" => Ok(Self::Tcp(rest.parse()?)),
            "unix" if rest.is_empty() || rest.contains('\0') => {
                Err(EndpointError::Path(text.into()))
            }
            "unix" => Ok(Self::Unix(rest.into())),
            "vsock" => {
                let (cid, port) =
                    rest.split_once(':').ok_or_else(|| EndpointError::VsockForm(rest.into()))?;
                Ok(Self::Vsock { cid: cid.parse()?, port: port.parse()? })
            }
            _ => Err(EndpointError::Kind(text.into())),
        }
    }
}

impl TryFrom<Cow<'_, str>> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(destination) => write!(f, "tcp:{destination}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

/// The context identifier of a virtual machine: the address of AF_VSOCK, see vsock(7).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "i64")]
pub struct Cid(u32);

impl Cid {
    /// `VMADDR_CID_ANY`, written `any`: every CID that this machine has. Only for listening.
    pub const ANY: Self = Self(u32::MAX);
    /// `VMADDR_CID_HYPERVISOR`.
    pub const HYPERVISOR: Self = Self(0);
    /// `VMADDR_CID_LOCAL`: loopback.
    pub const LOCAL: Self = Self(1);
    /// `VMADDR_CID_HOST`: the hypervisor's host. On Nitro the parent instance is CID 3 instead.
    pub const HOST: Self = Self(2);

    /// The CID that the kernel reports for a peer.
    #[must_use]
    pub const fn new(cid: u32) -> Self {
        Self(cid)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Cid {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text == "any" {
            return Ok(Self::ANY);
        }
        decimal(text).map(Self).ok_or_else(|| EndpointError::Cid(text.into()))
    }
}

impl TryFrom<i64> for Cid {
    type Error = EndpointError;

    fn try_from(number: i64) -> Result<Self, EndpointError> {
        u32::try_from(number)
            .ok()
            .filter(|cid| *cid != u32::MAX)
            .map(Self)
            .ok_or_else(|| EndpointError::Cid(number.to_string().as_str().into()))
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY { f.write_str("any") } else { self.0.fmt(f) }
    }
}

/// A port of AF_VSOCK: 1 to 4294967294. Below 1024, listening needs CAP_NET_BIND_SERVICE.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VsockPort(u32);

impl VsockPort {
    /// The port with this number, if there is one.
    #[must_use]
    pub const fn new(port: u32) -> Option<Self> {
        match port {
            0 | u32::MAX => None,
            port => Some(Self(port)),
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for VsockPort {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        decimal(text)
            .filter(|port| *port != 0)
            .map(Self)
            .ok_or_else(|| EndpointError::VsockPort(text.into()))
    }
}

impl fmt::Display for VsockPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum EndpointError {
    /// The CID is no number, or one that no machine can have.
    #[error("CID `{0}` is out of range; write `any` or a number from 0 to 4294967294")]
    Cid(Clamped),
    /// What follows `tcp:` is no destination.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// It does not begin with a known kind.
    #[error(
        "endpoint `{0}` has no kind; write `tcp:<host>:<port>`, `vsock:<cid>:<port>` or `unix:<path>`"
    )]
    Kind(Clamped),
    /// The path is empty or has a NUL.
    #[error("endpoint `{0}` has no path; write `unix:<path>`")]
    Path(Clamped),
    /// A vsock endpoint lacks one of its two numbers.
    #[error("vsock endpoint `{0}` has no port; write `vsock:<cid>:<port>`")]
    VsockForm(Clamped),
    /// The vsock port is no number from 1 to 4294967294.
    #[error("vsock port `{0}` is out of range; write a number from 1 to 4294967294")]
    VsockPort(Clamped),
}

/// A decimal number below `VMADDR_CID_ANY` and `VMADDR_PORT_ANY`, which are the same number.
fn decimal(text: &str) -> Option<u32> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok().filter(|number| *number != u32::MAX))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_kinds_are_parsed_and_printed() {
        for text in [
            "tcp:127.0.0.1:9464",
            "tcp:[::1]:9464",
            "vsock:3:8443",
            "vsock:any:5000",
            "unix:/run/p.sock",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, expected) in [
            ("vsock:9", "has no port; write `vsock:<cid>:<port>`"),
            ("vsock:4294967295:1", "CID"),
            ("vsock:-1:1", "CID"),
            ("vsock:3:0", "1 to 4294967294"),
            ("vsock:3:4294967295", "1 to 4294967294"),
            ("vsock:3:1:2", "1 to 4294967294"),
            ("unix:", "unix:<path>"),
            ("10.0.0.1:443", "tcp:<host>:<port>"),
            ("tcp:10.0.0.1", "has no port"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_again_changes_nothing(text in "(tcp|unix|vsock):\\PC{0,40}|vsock:[0-9]{1,10}:[0-9]{1,10}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
            }
        }
    }
}
