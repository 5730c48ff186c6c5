//! Asking in our own form.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::action::{
    Action, ByLabel, Decrypt, Describe, Echo, Encrypt, KeySpec, ListKeys, Outcome, Random, Sign,
    Verify,
};
use protocol::answer::{Answer, Body};
use protocol::bytes::Bytes;
use protocol::encode::TooLarge;
use protocol::request::{Credentials, Request, SecretName};
use zeroize::Zeroizing;

use crate::cli::{Aad, Act, Input, Options, Use};
use crate::ending::{AskError, Verdict, explain_refusal};
use crate::files::{self, FileError};
use crate::show;

/// A request, and what its answer must be.
#[derive(Debug)]
pub struct Question(Request);

impl Question {
    /// A question with this id.
    #[must_use]
    pub fn new(
        id: &str,
        action: Action,
        credentials: Option<Credentials>,
        options: &Options,
    ) -> Self {
        let secret = options.secret_id.clone().zip(options.region.clone());
        let secret = secret.map(|(id, region)| SecretName { id, region });
        Self(Request { id: id.into(), action, credentials, secret })
    }

    /// The content of its frame.
    ///
    /// # Errors
    ///
    /// [`TooLarge`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, TooLarge> {
        self.0.encode()
    }

    /// Shows the answer, and says what it is.
    ///
    /// # Errors
    ///
    /// [`AskError`] where it is no answer to this, or cannot be written.
    pub fn show(&self, options: &Options, act: &Act, content: &[u8]) -> Result<Verdict, AskError> {
        let answer = self.parse(options, content)?;
        if options.json {
            files::write(None, &Zeroizing::new([content.trim_ascii(), b"\n"].concat()))?;
        }
        match &answer.body {
            Body::Done(outcome) => {
                show::keep(act, outcome)?;
                if !options.json {
                    show::print(act, outcome, answer.duration_ms)?;
                }
                Ok(show::verdict(outcome))
            }
            Body::Failed { error } => {
                if !options.json {
                    // Where standard error is closed, the exit status says it all the same.
                    let _ = writeln!(io::stderr(), "host-client: {}", explain_refusal(error));
                }
                Ok(Verdict::Refused)
            }
        }
    }

    fn parse(&self, options: &Options, content: &[u8]) -> Result<Answer, AskError> {
        let endpoint = || options.endpoint.clone();
        let mismatch = |what| Err(AskError::Mismatch { endpoint: endpoint(), what });
        let answer = Answer::parse(content)
            .map_err(|source| AskError::Malformed { endpoint: endpoint(), source })?;
        match (&answer.id, &answer.body) {
            (Some(id), _) if *id != self.0.id => mismatch("the id is that of another request"),
            (_, Body::Done(outcome)) if outcome.name() != self.0.action.name() => {
                mismatch("it is the result of another action")
            }
            (None, Body::Done(_)) => mismatch("the id is missing"),
            (_, Body::Done(outcome)) if self.lacks_attestation(outcome) => {
                mismatch("the attestation document is missing")
            }
            _ => Ok(answer),
        }
    }

    fn lacks_attestation(&self, outcome: &Outcome) -> bool {
        let (Action::Describe(asked), Outcome::Describe(told)) = (&self.0.action, outcome) else {
            return false;
        };
        asked.attestation && told.nsm.as_ref().is_none_or(|nsm| nsm.attestation.is_none())
    }
}

/// What is to be done, with all that must be read for it.
///
/// # Errors
///
/// [`FileError`].
pub fn action(act: &Act, quiet: bool) -> Result<Action, FileError> {
    let read = |input: &Input, what| read(input, what, quiet);
    Ok(match act {
        Act::CreateKey { label, kind, usage } => Action::CreateKey(KeySpec {
            label: label.clone(),
            kind: kind.0,
            usage: Use::all(usage),
        }),
        Act::Decrypt { label, aad, input, raw, .. } => {
            let mut ciphertext = read(input, "ciphertext")?;
            if !raw {
                ciphertext = decode(&ciphertext, input)?;
            }
            let aad = authenticated(aad)?;
            Action::Decrypt(Decrypt { label: label.clone(), ciphertext: bytes(ciphertext), aad })
        }
        Act::DeleteKey { label } => Action::DeleteKey(ByLabel { label: label.clone() }),
        Act::Describe { attestation, nonce } => {
            Action::Describe(Describe { attestation: attestation.is_some(), nonce: nonce.clone() })
        }
        Act::Echo { message } => Action::Echo(Echo { message: message.clone() }),
        Act::Encrypt { label, aad, input, .. } => {
            let plaintext = bytes(read(input, "plaintext")?);
            let aad = authenticated(aad)?;
            Action::Encrypt(Encrypt { label: label.clone(), plaintext, aad })
        }
        Act::GetKey { label } => Action::GetKey(ByLabel { label: label.clone() }),
        Act::ListKeys => Action::ListKeys(ListKeys {}),
        Act::Random { bytes, .. } => Action::Random(Random { bytes: *bytes }),
        Act::Sign { label, input, .. } => {
            let message = bytes(read(input, "message")?);
            Action::Sign(Sign { label: label.clone(), message })
        }
        Act::Verify { label, signature, input } => Action::Verify(Verify {
            label: label.clone(),
            message: bytes(read(input, "message")?),
            signature: signature.clone(),
        }),
    })
}

fn read(input: &Input, what: &str, quiet: bool) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let path = input.file.as_deref();
    if files::is_typed(path) && !quiet {
        // Who does not see this waits for nothing, but can still type.
        let _ = writeln!(io::stderr(), "type the {what}, then Enter and Ctrl-D; or use --in FILE");
    }
    files::read(path)
}

fn authenticated(aad: &Aad) -> Result<Bytes, FileError> {
    Ok(match (&aad.aad, &aad.aad_file) {
        (Some(text), _) => text.clone().into_bytes().into(),
        (None, Some(path)) => bytes(files::read(Some(path))?),
        (None, None) => Bytes::default(),
    })
}

fn decode(text: &[u8], input: &Input) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let dense: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let name = || files::name(input.file.as_deref(), "standard input");
    STANDARD.decode(dense).map(Zeroizing::new).map_err(|_| FileError::Base64 { name: name() })
}

/// Moves them; nothing is copied.
fn bytes(mut bytes: Zeroizing<Vec<u8>>) -> Bytes {
    std::mem::take(&mut *bytes).into()
}
