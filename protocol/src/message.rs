//! Telling what a request is.

use crate::answer::{Code, Failure};
use crate::malformed::Malformed;
use crate::members::Members;
use crate::request::{self, Request};
use crate::seed;

/// A request, in one of the two forms.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// In our own.
    Own(Request),
    /// In that of the seed.
    Seed(seed::Request),
}

impl Message {
    /// Understands the content of a frame.
    ///
    /// # Errors
    ///
    /// [`Rejected`], with all that whoever asked needs to be told.
    pub fn parse(content: &[u8]) -> Result<Self, Rejected> {
        let mut members = Members::default();
        let read = members.read(content).map_err(invalid);
        let form = Form::of(&members);
        let id = members.peek("id").filter(|id| request::is_id(id));
        let parsed = read.and_then(|()| match &form {
            Form::Own => Request::from_members(members).map(Self::Own),
            Form::Seed { .. } => seed::Request::from_members(members).map(Self::Seed),
        });
        parsed.map_err(|failure| Rejected { id, form, failure })
    }
}

/// A request that is not one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejected {
    /// Its id, if that could be read.
    pub id: Option<String>,
    /// In which form it is answered.
    pub form: Form,
    /// What it is answered.
    pub failure: Failure,
}

/// The two forms of messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Form {
    /// Our own.
    Own,
    /// That of the seed.
    Seed {
        /// The request's action, which the answer says again; nothing if that could not be read.
        action: Option<String>,
    },
}

impl Form {
    /// Ours has neither of the members that all requests of the seed have.
    fn of(members: &Members<'_>) -> Self {
        if members.has("data") || members.has("aws-credentials") {
            Self::Seed { action: members.peek("action").filter(|action| request::is_id(action)) }
        } else {
            Self::Own
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "this is how `map_err` calls it")]
pub(crate) fn invalid(malformed: Malformed) -> Failure {
    Failure::new(Code::InvalidRequest, format!("invalid request: {malformed}"))
}

#[cfg(test)]
mod tests;
