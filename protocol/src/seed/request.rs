//! What the seed's clients ask.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Reply;
use crate::answer::{Code, Failure};
use crate::encode::{TooLarge, encode};
use crate::label::KeyLabel;
use crate::malformed::{Malformed, excerpt, without_value};
use crate::members::Members;
use crate::message::invalid;
use crate::request::{Credentials, is_id};

/// A request as enclave-app understands it.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// Chosen by who asks. The answer does not have it.
    pub id: Option<String>,
    /// The action as the request writes it. The answer says it again.
    pub action: String,
    /// What is to be done.
    pub wish: Wish,
}

/// What a request wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// An AES key of 256 bits.
    CreateKey {
        /// Its label.
        label: KeyLabel,
        /// With which the secret is fetched; nothing if they are empty.
        credentials: Option<Credentials>,
    },
    /// The message again, as [`super::echo_text`].
    Echo(String),
    /// Something of which the original only says this.
    Hear(Reply),
}

impl Request {
    /// Members that are not known are ignored. So is the class name: what is made of a request is
    /// not for who asks to choose.
    pub(crate) fn from_members(mut members: Members<'_>) -> Result<Self, Failure> {
        let id = members.peek("id").filter(|id| is_id(id));
        let action: String = members.require("action").map_err(invalid)?;
        let data: Data = members.require("data").map_err(invalid)?;
        let wish = if action.eq_ignore_ascii_case(CLOUDHSM) {
            wish(&data.value).map_err(invalid)?
        } else if action.eq_ignore_ascii_case(ECHO) {
            Wish::Echo(data.value.to_string())
        } else {
            let action = excerpt(&action, 40);
            let message = format!("there is no action `{action}`, but `{CLOUDHSM}` and `{ECHO}`");
            return Err(Failure::new(Code::UnknownAction, message));
        };
        Ok(Self { id, action, wish })
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.id)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// What a request is about to say in the JSON within its JSON.
fn wish(value: &str) -> Result<Wish, Malformed> {
    let job: Job = serde_json::from_str(value)
        .map_err(|error| Malformed::member("value", without_value(&error)))?;
    let mode = job.mode.to_ascii_uppercase();
    if [KeyMode::DeleteKey, KeyMode::GetKey].iter().any(|known| known.name() == mode) {
        return Ok(Wish::Hear(Reply::NotImplemented));
    }
    if mode != KeyMode::CreateKey.name() {
        return Ok(Wish::Hear(Reply::InvalidKeyMode));
    }
    if !job.kind.eq_ignore_ascii_case(AES) {
        return Ok(Wish::Hear(Reply::OnlyAes));
    }
    let label = job.label.parse().map_err(|error| Malformed::member("KEY_LABEL", error))?;
    let has_key = !job.access_key_id.is_empty() && !job.secret_access_key.is_empty();
    let credentials = has_key.then_some(Credentials {
        access_key_id: job.access_key_id,
        secret_access_key: job.secret_access_key,
        session_token: job.session_token.filter(|token| !token.is_empty()),
    });
    Ok(Wish::CreateKey { label, credentials })
}

#[derive(Deserialize)]
struct Data {
    value: Zeroizing<String>,
}

#[derive(Deserialize)]
struct Job {
    #[serde(rename = "AK")]
    access_key_id: Zeroizing<String>,
    #[serde(rename = "SK")]
    secret_access_key: Zeroizing<String>,
    #[serde(default, rename = "ST")]
    session_token: Option<Zeroizing<String>>,
    #[serde(rename = "KEY_MODE")]
    mode: String,
    #[serde(default, rename = "KEY_TYPE")]
    kind: String,
    #[serde(default, rename = "KEY_LABEL")]
    label: String,
}

/// What host-client asks of the seed's enclaves.
#[derive(Clone, Debug)]
pub enum Order {
    /// Something about an AES key of 256 bits.
    CloudHsm {
        /// What.
        mode: KeyMode,
        /// Its label.
        label: KeyLabel,
        /// With which the secret is fetched. The original cannot do without.
        credentials: Option<Credentials>,
    },
    /// The message again.
    Echo(String),
}

impl Order {
    /// The content of the frame, as the Java client writes it.
    ///
    /// # Errors
    ///
    /// [`TooLarge`].
    pub fn encode(&self, id: &str) -> Result<Zeroizing<Vec<u8>>, TooLarge> {
        match self {
            Self::CloudHsm { mode, label, credentials } => {
                let credentials = credentials.as_ref();
                let token = credentials.and_then(|credentials| credentials.session_token.as_ref());
                let job = encode(&JobOut {
                    access_key_id: credentials.map_or("", |given| &given.access_key_id),
                    secret_access_key: credentials.map_or("", |given| &given.secret_access_key),
                    session_token: token.map_or("", |token| token),
                    mode: mode.name(),
                    kind: AES,
                    label: label.as_str(),
                })?;
                let value = str::from_utf8(&job).map_err(|_| TooLarge)?;
                encode(&RequestOut::new(id, CLOUDHSM, value))
            }
            Self::Echo(message) => encode(&RequestOut::new(id, ECHO, message)),
        }
    }
}

/// What is to be done about a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyMode {
    /// Make it.
    CreateKey,
    /// Destroy it.
    DeleteKey,
    /// Find it.
    GetKey,
}

impl KeyMode {
    const fn name(self) -> &'static str {
        match self {
            Self::CreateKey => "CREATE_KEY",
            Self::DeleteKey => "DELETE_KEY",
            Self::GetKey => "GET_KEY",
        }
    }
}

#[derive(Serialize)]
struct RequestOut<'a> {
    id: &'a str,
    action: &'a str,
    data: DataOut<'a>,
    #[serde(rename = "aws-credentials")]
    credentials: Option<()>,
}

impl<'a> RequestOut<'a> {
    fn new(id: &'a str, action: &'a str, value: &'a str) -> Self {
        Self { id, action, data: DataOut { class: CLASS, value }, credentials: None }
    }
}

#[derive(Serialize)]
struct DataOut<'a> {
    #[serde(rename = "@modelClass")]
    class: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct JobOut<'a> {
    #[serde(rename = "AK")]
    access_key_id: &'a str,
    #[serde(rename = "SK")]
    secret_access_key: &'a str,
    #[serde(rename = "ST")]
    session_token: &'a str,
    #[serde(rename = "KEY_MODE")]
    mode: &'a str,
    #[serde(rename = "KEY_TYPE")]
    kind: &'a str,
    #[serde(rename = "KEY_LABEL")]
    label: &'a str,
}

const AES: &str = "AES";
const CLASS: &str = "com.github.qyzhangaws.cloudhsm.model.MyPojoData";
const CLOUDHSM: &str = "CLOUDHSM";
const ECHO: &str = "ECHO";
