//! What the seed's enclaves answer.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::Reply;
use crate::answer::Failure;
use crate::encode::encode;
use crate::frame::MAX_BYTES;
use crate::malformed::Malformed;
use crate::members::Members;

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The request's, as that wrote it; nothing if that was not understood.
    pub action: Option<String>,
    /// What came of it.
    pub value: Option<String>,
    /// Why nothing did.
    pub error: Option<String>,
    /// From the request's last byte to this answer, in milliseconds.
    pub duration_ms: u64,
}

impl Answer {
    /// Says a text such as [`super::echo_text`].
    #[must_use]
    pub fn say(action: &str, value: impl Into<String>, duration_ms: u64) -> Self {
        Self { action: Some(action.into()), value: Some(value.into()), error: None, duration_ms }
    }

    /// Says one of the fixed texts.
    #[must_use]
    pub fn reply(action: &str, reply: Reply, duration_ms: u64) -> Self {
        let error = (reply == Reply::InvalidKeyMode).then(|| reply.text().into());
        Self { error, ..Self::say(action, reply.text(), duration_ms) }
    }

    /// Says why nothing came of a request.
    #[must_use]
    pub fn failed(action: Option<String>, failure: &Failure, duration_ms: u64) -> Self {
        Self { action, value: None, error: Some(failure.message.clone()), duration_ms }
    }

    /// The content of its frame. One that would not fit says so instead.
    #[must_use]
    pub fn encode(&self, start: SystemTime) -> Zeroizing<Vec<u8>> {
        encode(&AnswerOut::new(self, start)).unwrap_or_else(|_| {
            let error = Some(format!("the answer would have more than {MAX_BYTES} bytes"));
            let answer = Self { action: None, value: None, error, duration_ms: self.duration_ms };
            encode(&AnswerOut::new(&answer, start)).unwrap_or_default()
        })
    }

    /// Understands the content of a frame, also of an enclave that writes times as numbers. The
    /// stack trace in it stays there.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn parse(content: &[u8]) -> Result<Self, Malformed> {
        let mut members = Members::default();
        members.read(content)?;
        let action = members.take("action")?;
        let data: Option<Data> = members.take("data")?;
        let _: Option<IgnoredAny> = members.take("start-date")?;
        let duration_ms = members.take("duration")?.unwrap_or_default();
        let failed = members.take("isError")?.unwrap_or(false);
        let mut error = members.take("error")?;
        let value = data.and_then(|data| data.value);
        if failed && error.is_none() {
            error = Some(value.clone().unwrap_or_else(|| "no reason was given".into()));
        }
        Ok(Self { action, value, error, duration_ms })
    }
}

#[derive(Deserialize)]
struct Data {
    value: Option<String>,
}

#[derive(Serialize)]
struct AnswerOut<'a> {
    action: Option<&'a str>,
    data: Option<DataOut<'a>>,
    #[serde(rename = "start-date")]
    start: Instant,
    duration: u64,
    #[serde(rename = "isError")]
    failed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> AnswerOut<'a> {
    fn new(answer: &'a Answer, start: SystemTime) -> Self {
        Self {
            action: answer.action.as_deref(),
            data: answer.value.as_deref().map(|value| DataOut { class: CLASS, value }),
            start: Instant(start),
            duration: answer.duration_ms,
            failed: answer.error.is_some(),
            error: answer.error.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct DataOut<'a> {
    #[serde(rename = "@modelClass")]
    class: &'static str,
    value: &'a str,
}

/// A time as Java's `Instant` writes it (ISO 8601), with milliseconds also where they are 0.
struct Instant(SystemTime);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A clock that is out of the calendar's range is no reason not to answer.
        let time = self
            .0
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i128::try_from(since.as_nanos()).ok())
            .and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        serializer.collect_str(&format_args!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond(),
        ))
    }
}

const CLASS: &str = "com.github.qyzhangaws.cloudhsm.model.MyPojoDataResult";
