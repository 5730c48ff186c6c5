//! A client of the application that is not ours: bytes in frames, as anybody could send them.

use std::io::{self, Read, Write};

use serde_json::{Value, json};
use socket2::Socket;

use crate::leg::Leg;

/// A connection to the application.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
}

impl Client {
    /// Connects to an endpoint of the leg.
    ///
    /// # Errors
    ///
    /// What connect(2) answers.
    pub fn connect(leg: &Leg, number: u32) -> io::Result<Self> {
        Ok(Self { socket: leg.dial(number)? })
    }

    /// Sends a request, and takes its answer.
    ///
    /// # Errors
    ///
    /// If the connection ends before, or the answer is no JSON.
    pub fn ask(&mut self, request: &Value) -> io::Result<Value> {
        let answer = self.ask_bytes(request.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// As [`Self::ask`], with any content.
    ///
    /// # Errors
    ///
    /// If the connection ends before.
    pub fn ask_bytes(&mut self, content: &[u8]) -> io::Result<Vec<u8>> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.socket.write_all(&[&length.to_le_bytes(), content].concat())?;
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        assert!(length <= MOST, "an answer of {length} bytes");
        let mut answer = vec![0; length as usize];
        self.socket.read_exact(&mut answer)?;
        Ok(answer)
    }
}

/// A request to create an AES key.
#[must_use]
pub fn create_key(label: &str) -> Value {
    request(json!({ "action": "create-key", "label": label }))
}

/// Completes a request with an id and credentials.
#[must_use]
pub fn request(mut request: Value) -> Value {
    request["id"] = json!("1");
    request["credentials"] = json!({
        "access-key-id": ACCESS_KEY_ID,
        "secret-access-key": SECRET_ACCESS_KEY,
        "session-token": SESSION_TOKEN,
    });
    request
}

/// What a role's temporary credentials look like.
pub const ACCESS_KEY_ID: &str = "ASIATESTTESTTESTTEST";
/// Its other half.
pub const SECRET_ACCESS_KEY: &str = "secret-access-key-of-the-tests";
/// And its third.
pub const SESSION_TOKEN: &str = "session-token-of-the-tests";

/// The largest answer, in bytes.
const MOST: u32 = 64 * 1024;
