//! What can be asked for, and what comes of it.

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::answer::{Code, Failure};
use crate::bytes::Bytes;
use crate::key::{Key, KeyKind, Usage};
use crate::label::KeyLabel;
use crate::malformed::excerpt;
use crate::members::Members;
use crate::message::invalid;

/// What is to be done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Action {
    /// Makes a key, unless there is one with this label and these attributes.
    CreateKey(KeySpec),
    /// Decrypts what [`Self::Encrypt`] made.
    Decrypt(Decrypt),
    /// Destroys a key.
    DeleteKey(ByLabel),
    /// Says what this application and its HSMs are.
    Describe(Describe),
    /// Says the message again.
    Echo(Echo),
    /// Encrypts with AES-GCM (NIST SP 800-38D). The HSM makes the nonce.
    Encrypt(Encrypt),
    /// Shows the attributes of a key.
    GetKey(ByLabel),
    /// Shows the attributes of all keys.
    ListKeys(ListKeys),
    /// Makes random bytes in the HSM.
    Random(Random),
    /// Signs with HMAC-SHA-256, or with ECDSA over SHA-256, as the key demands.
    Sign(Sign),
    /// Says whether a signature is one of the message.
    Verify(Verify),
}

impl Action {
    /// The names of all.
    pub const NAMES: [&'static str; 11] = [
        "create-key",
        "decrypt",
        "delete-key",
        "describe",
        "echo",
        "encrypt",
        "get-key",
        "list-keys",
        "random",
        "sign",
        "verify",
    ];

    /// The name that it has in messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateKey(_) => "create-key",
            Self::Decrypt(_) => "decrypt",
            Self::DeleteKey(_) => "delete-key",
            Self::Describe(_) => "describe",
            Self::Echo(_) => "echo",
            Self::Encrypt(_) => "encrypt",
            Self::GetKey(_) => "get-key",
            Self::ListKeys(_) => "list-keys",
            Self::Random(_) => "random",
            Self::Sign(_) => "sign",
            Self::Verify(_) => "verify",
        }
    }

    /// The action with this name, of the members that are its own.
    pub(crate) fn from_members(name: &str, members: Members<'_>) -> Result<Self, Failure> {
        match name {
            "create-key" => members.rest().map(Self::CreateKey),
            "decrypt" => members.rest().map(Self::Decrypt),
            "delete-key" => members.rest().map(Self::DeleteKey),
            "describe" => members.rest().map(Self::Describe),
            "echo" => members.rest().map(Self::Echo),
            "encrypt" => members.rest().map(Self::Encrypt),
            "get-key" => members.rest().map(Self::GetKey),
            "list-keys" => members.rest().map(Self::ListKeys),
            "random" => members.rest().map(Self::Random),
            "sign" => members.rest().map(Self::Sign),
            "verify" => members.rest().map(Self::Verify),
            _ => return Err(unknown(name)),
        }
        .map_err(invalid)
    }
}

fn unknown(name: &str) -> Failure {
    let name = excerpt(name, 40);
    let known = Action::NAMES.join("`, `");
    Failure::new(Code::UnknownAction, format!("there is no action `{name}`, but `{known}`"))
}

/// Names a key.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ByLabel {
    /// Its label.
    pub label: KeyLabel,
}

/// The key that is wanted. It is never extractable, and always sensitive.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeySpec {
    /// Its label.
    pub label: KeyLabel,
    /// Its kind and size.
    #[serde(default)]
    pub kind: KeyKind,
    /// What it may be used for; default: [`KeyKind::default_usage`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What is to be described beyond the usual.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Describe {
    /// Whether an attestation document of the Nitro Security Module is wanted.
    #[serde(default)]
    pub attestation: bool,
    /// What the document is to contain, so that it is fresh; at most 512 bytes.
    #[serde(default, deserialize_with = "nonce", skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Bytes>,
}

/// The Nitro Security Module takes no more.
fn nonce<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    let nonce = Option::<Bytes>::deserialize(deserializer)?;
    match &nonce {
        Some(bytes) if bytes.as_slice().len() > 512 => {
            Err(de::Error::custom("a nonce has at most 512 bytes"))
        }
        _ => Ok(nonce),
    }
}

/// What is to be said again.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Echo {
    /// The message.
    pub message: String,
}

/// What is to be encrypted, and how.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Encrypt {
    /// The label of an AES key.
    pub label: KeyLabel,
    /// What is to be hidden.
    pub plaintext: Bytes,
    /// What is to be authenticated beside it.
    #[serde(default)]
    pub aad: Bytes,
}

/// What is to be decrypted, and how.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Decrypt {
    /// The label of an AES key.
    pub label: KeyLabel,
    /// The nonce of 12 bytes, the ciphertext, and the tag of 16 bytes.
    pub ciphertext: Bytes,
    /// What was authenticated beside it.
    #[serde(default)]
    pub aad: Bytes,
}

/// Nothing more is to be said.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ListKeys {}

/// How much is wanted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Random {
    /// How many bytes; 1 to 1,024.
    #[serde(deserialize_with = "amount")]
    pub bytes: u16,
}

fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    match u16::deserialize(deserializer)? {
        bytes @ 1..=1024 => Ok(bytes),
        _ => Err(de::Error::custom("1 to 1024 random bytes can be had at once")),
    }
}

/// What is to be signed, and how.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sign {
    /// The label of an HMAC or EC key.
    pub label: KeyLabel,
    /// The message; its hash is made on the way.
    pub message: Bytes,
}

/// What is to be verified, and how.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Verify {
    /// The label of an HMAC or EC key.
    pub label: KeyLabel,
    /// The message.
    pub message: Bytes,
    /// What [`Action::Sign`] made.
    pub signature: Bytes,
}

/// What came of an action: the members `action` and `result` of an answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(content = "result", rename_all = "kebab-case", tag = "action")]
pub enum Outcome {
    /// There is such a key now.
    CreateKey(Created),
    /// The plaintext.
    Decrypt(Decrypted),
    /// There is no such key any more.
    DeleteKey(Deleted),
    /// What this application and its HSMs are.
    Describe(Box<Description>),
    /// The message again.
    Echo(Echo),
    /// The ciphertext.
    Encrypt(Encrypted),
    /// The key.
    GetKey(Key),
    /// All keys.
    ListKeys(Listed),
    /// Random bytes.
    Random(Randomized),
    /// A signature.
    Sign(Signed),
    /// Whether the signature is one.
    Verify(Verified),
}

impl Outcome {
    /// The name of the action that it came of.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateKey(_) => "create-key",
            Self::Decrypt(_) => "decrypt",
            Self::DeleteKey(_) => "delete-key",
            Self::Describe(_) => "describe",
            Self::Echo(_) => "echo",
            Self::Encrypt(_) => "encrypt",
            Self::GetKey(_) => "get-key",
            Self::ListKeys(_) => "list-keys",
            Self::Random(_) => "random",
            Self::Sign(_) => "sign",
            Self::Verify(_) => "verify",
        }
    }
}

/// A key that exists.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Created {
    /// Whether it was made now; else it was there.
    pub created: bool,
    /// Its attributes.
    pub key: Key,
}

/// What was hidden.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decrypted {
    /// It.
    pub plaintext: Bytes,
}

/// A key that no longer exists.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Deleted {
    /// The label that it had.
    pub label: KeyLabel,
}

/// What is hidden now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Encrypted {
    /// The nonce of 12 bytes, the ciphertext, and the tag of 16 bytes.
    pub ciphertext: Bytes,
}

/// The keys of the crypto user.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed {
    /// Sorted by label. An EC key pair is one key.
    pub keys: Vec<Key>,
    /// Whether there are more than fit in an answer.
    pub truncated: bool,
}

/// Bytes that nobody foresaw.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Randomized {
    /// They.
    pub bytes: Bytes,
}

/// A signature.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signed {
    /// An HMAC of 32 bytes, or the two numbers of ECDSA with 32 bytes each, big-endian.
    pub signature: Bytes,
    /// How it was made.
    pub algorithm: Algorithm,
}

/// What a signature is worth.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verified {
    /// Whether it is one of this message by this key.
    pub valid: bool,
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// ECDSA over SHA-256 on P-256.
    EcdsaSha256,
    /// HMAC with SHA-256.
    HmacSha256,
}

/// What this application and its HSMs are.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// Of enclave-app.
    pub version: String,
    /// Since it started.
    pub uptime_seconds: u64,
    /// The HSM, or why there is none.
    pub hsm: HsmDescription,
    /// The secret that it has; nothing before the first request that needed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretDescription>,
    /// The Nitro Security Module, if this is an enclave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsm: Option<NsmDescription>,
}

/// The HSM as enclave-app sees it now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum HsmDescription {
    /// Nobody needed it yet.
    Idle,
    /// It is logged in to.
    Ready(Token),
    /// It cannot be used at present.
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// A slot, the token in it, and the module that leads there. Texts are as the module gives them, without the blanks at their ends.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Token {
    /// The path of the PKCS#11 module.
    pub module: String,
    /// Its description and version.
    pub library: String,
    /// The number of the slot.
    pub slot: u64,
    /// The label of the token.
    pub label: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Its firmware's version.
    pub firmware: String,
}

/// A version of a secret.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SecretDescription {
    /// The name or ARN of the secret.
    pub id: String,
    /// Its VersionId.
    pub version: String,
}

/// The Nitro Security Module, and what it has measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NsmDescription {
    /// Its identity, which names the instance and the enclave.
    pub module: String,
    /// Its version.
    pub version: String,
    /// The platform configuration registers that are locked, or not zero.
    pub pcrs: Vec<Pcr>,
    /// A signed attestation document (COSE_Sign1), if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Bytes>,
}

/// A platform configuration register.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pcr {
    /// Which.
    pub index: u16,
    /// Its value, in hex digits.
    pub value: String,
    /// Whether it can no longer change.
    pub locked: bool,
}
