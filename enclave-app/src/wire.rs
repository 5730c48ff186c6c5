//! What the application and its worker say to each other: frames of JSON over a socket pair, which
//! is the worker's standard input.

use std::io::{self, Write};
use std::path::PathBuf;

use protocol::action::{Action, Outcome, Token};
use protocol::answer::Failure;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::pin::Pin;

/// The largest frame, in bytes. Requests and answers have at most 64 KiB; what surrounds them here
/// is little.
pub const MAX_FRAME: usize = 128 * 1024;

/// Something to do. Calls are answered as they are done, in any order.
#[derive(Debug, Deserialize, Serialize)]
pub struct Call {
    /// Says which reply is this call's.
    pub number: u64,
    /// What is to be done.
    pub order: Order,
}

/// What a worker can do. [`Self::Open`] comes first, and once; then [`Self::Login`].
#[derive(Debug, Deserialize, Serialize)]
pub enum Order {
    /// Something that needs a login.
    Act(Action),
    /// Log in as the crypto user, and open the sessions.
    Login(Pin),
    /// Load the module and find the token.
    Open(Open),
}

/// Which token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Open {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The label of the token; nothing for the first slot that has one.
    pub token: Option<String>,
    /// How many sessions there are, and so how many calls at once.
    pub sessions: usize,
}

/// What came of a call.
#[derive(Debug, Deserialize, Serialize)]
pub struct Reply {
    /// The call's.
    pub number: u64,
    /// What came of it.
    pub result: Result<Effect, Fault>,
}

/// What was done.
#[derive(Debug, Deserialize, Serialize)]
pub enum Effect {
    /// An action.
    Done(Outcome),
    /// A login.
    LoggedIn,
    /// The module is loaded, and this is its token.
    Opened(Token),
}

/// Why something was not done.
#[derive(Debug, Deserialize, Serialize)]
pub struct Fault {
    /// What follows from it.
    pub kind: FaultKind,
    /// What whoever asked is told.
    pub failure: Failure,
    /// For the log: the function and its return value, such as `C_Login: CKR_PIN_INCORRECT`.
    pub cause: String,
}

/// What follows from a fault.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum FaultKind {
    /// The module or its link is no longer of use, nor is the worker.
    Broken,
    /// Only this call has failed.
    Call,
    /// The password is wrong. The HSM has counted it.
    PinRefused,
    /// The HSM allows this user no further attempt.
    UserLocked,
}

/// A message as JSON. It may be secret, so no copy of it stays behind.
///
/// # Errors
///
/// It has no JSON form.
pub fn encode(message: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut size = Size(0);
    serde_json::to_writer(&mut size, message)?;
    // In one piece from the start: a vector that grows leaves copies behind that nobody wipes.
    let mut json = Zeroizing::new(Vec::with_capacity(size.0));
    serde_json::to_writer(&mut *json, message)?;
    Ok(json)
}

/// Counts what is written.
struct Size(usize);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
