//! What keys there are.

use serde::{Deserialize, Serialize};

/// The kind of a key, with its size.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// AES with 128 bits.
    #[serde(rename = "aes-128")]
    Aes128,
    /// AES with 192 bits.
    #[serde(rename = "aes-192")]
    Aes192,
    /// AES with 256 bits.
    #[default]
    #[serde(rename = "aes-256")]
    Aes256,
    /// A key pair on the curve P-256, for ECDSA (FIPS 186-5).
    #[serde(rename = "ec-p256")]
    EcP256,
    /// A generic secret of 256 bits, for HMAC with SHA-256 (RFC 2104).
    #[serde(rename = "hmac-256")]
    Hmac256,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Aes128, Self::Aes192, Self::Aes256, Self::EcP256, Self::Hmac256];

    /// The name that it has in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "aes-128",
            Self::Aes192 => "aes-192",
            Self::Aes256 => "aes-256",
            Self::EcP256 => "ec-p256",
            Self::Hmac256 => "hmac-256",
        }
    }

    /// What a key of this kind may be used for if its creator does not say.
    #[must_use]
    pub const fn default_usage(self) -> Usage {
        let encrypts = matches!(self, Self::Aes128 | Self::Aes192 | Self::Aes256);
        Usage {
            encrypt: encrypts,
            decrypt: encrypts,
            sign: !encrypts,
            verify: !encrypts,
            wrap: false,
            unwrap: false,
        }
    }
}

/// What a key may be used for. A key pair may sign with its private and verify with its public
/// half.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "PKCS#11 has an attribute for each")]
pub struct Usage {
    /// CKA_ENCRYPT.
    pub encrypt: bool,
    /// CKA_DECRYPT.
    pub decrypt: bool,
    /// CKA_SIGN.
    pub sign: bool,
    /// CKA_VERIFY.
    pub verify: bool,
    /// CKA_WRAP.
    pub wrap: bool,
    /// CKA_UNWRAP.
    pub unwrap: bool,
}

/// A key in the HSM. Its value never leaves it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Key {
    /// Its CKA_LABEL, with what is not UTF-8 replaced.
    pub label: String,
    /// Its kind; nothing if it is of a kind that enclave-app does not create.
    pub kind: Option<KeyKind>,
    /// Its CKA_ID, in hex digits.
    pub id: String,
    /// What it may be used for.
    pub usage: Usage,
    /// CKA_EXTRACTABLE: whether it can be wrapped and taken away.
    pub extractable: bool,
    /// CKA_SENSITIVE: whether its value is hidden.
    pub sensitive: bool,
}
