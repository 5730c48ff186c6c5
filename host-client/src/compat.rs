//! Asking an enclave of the seed, in its form.

use std::collections::BTreeMap;

use protocol::key::KeyKind;
use protocol::label::KeyLabel;
use protocol::malformed::Malformed;
use protocol::request::Credentials;
use protocol::seed::{Answer, KeyMode, Order, Reply};
use serde_json::value::RawValue;

use crate::cli::Act;
use crate::ending::Verdict;

/// What such an enclave has words for.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// Say a message again.
    Echo(&'a str),
    /// Do something about an AES key of 256 bits.
    Key(KeyMode, &'a KeyLabel),
}

impl<'a> Question<'a> {
    /// An action in its words, if there are any.
    #[must_use]
    pub fn new(act: &'a Act) -> Option<Self> {
        match act {
            Act::CreateKey { label, kind, usage }
                if kind.0 == KeyKind::Aes256 && usage.is_empty() =>
            {
                Some(Self::Key(KeyMode::CreateKey, label))
            }
            Act::DeleteKey { label } => Some(Self::Key(KeyMode::DeleteKey, label)),
            Act::Echo { message } => Some(Self::Echo(message)),
            Act::GetKey { label } => Some(Self::Key(KeyMode::GetKey, label)),
            _ => None,
        }
    }

    /// What is sent.
    #[must_use]
    pub fn order(self, credentials: Option<Credentials>) -> Order {
        match self {
            Self::Echo(message) => Order::Echo(message.into()),
            Self::Key(mode, label) => Order::CloudHsm { mode, label: label.clone(), credentials },
        }
    }

    /// What an answer means: these enclaves also call failures a success.
    #[must_use]
    pub fn verdict(self, answer: &Answer) -> Verdict {
        let value = answer.value.as_deref().unwrap_or_default();
        match self {
            _ if answer.error.is_some() => Verdict::Refused,
            Self::Key(KeyMode::CreateKey, _) if !value.starts_with(Reply::Created.text()) => {
                Verdict::Refused
            }
            Self::Key(KeyMode::DeleteKey | KeyMode::GetKey, _) => Verdict::Refused,
            Self::Echo(_) | Self::Key(KeyMode::CreateKey, _) => Verdict::Done,
        }
    }
}

/// An answer as it came, but for the insides of a Java program.
///
/// # Errors
///
/// [`Malformed`], where it is no answer.
pub fn parse(content: &[u8]) -> Result<(Answer, String), Malformed> {
    let answer = Answer::parse(content)?;
    // What has been understood as JSON is understood again.
    let mut members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(content).unwrap_or_default();
    members.remove("errorStacktrace");
    Ok((answer, serde_json::to_string(&members).unwrap_or_default()))
}
