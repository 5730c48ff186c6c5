//! The seed's messages: those of the Java applications which this suite replaces.
//!
//! Their clients work with our enclave-app and our host-client with their enclaves, so texts,
//! order of members and letter case are theirs to the byte.

mod answer;
mod request;

pub use answer::Answer;
pub use request::{KeyMode, Order, Request, Wish};

/// What the original says of a key, whatever else happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// There is such a key now.
    Created,
    /// There is no such thing to do. The original calls this a success; we do not.
    InvalidKeyMode,
    /// The original cannot find or delete keys.
    NotImplemented,
    /// The original makes no other keys.
    OnlyAes,
}

impl Reply {
    /// The text in the answer.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Created => "Info: Key created!",
            Self::InvalidKeyMode => {
                "Error: Invalid KeyMode specified, only support CREATE_KEY, GET_KEY, DELETE_KEY"
            }
            Self::NotImplemented => "Info: not implemented!",
            Self::OnlyAes => "Info: only KeyType:AES implemented!",
        }
    }
}

/// What the original echoes: the message, after the module of its Nitro Security Module.
#[must_use]
pub fn echo_text(nsm_module: &str, message: &str) -> String {
    format!("Echo from Enclave {nsm_module}: {message}")
}

#[cfg(test)]
mod tests;
