//! The Nitro Security Module, which knows what was measured and signs attestation documents.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use aws_nitro_enclaves_nsm_api::api::{ErrorCode, Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use protocol::action::{Describe, NsmDescription, Pcr};
use protocol::answer::{Code, Failure};
use protocol::bytes::Bytes;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tunnel::chain::Chain;

/// The module of this machine, if it has one.
#[derive(Debug)]
pub struct Nsm {
    device: PathBuf,
    /// One request at a time: a device that hangs costs one thread, whoever asks.
    turn: Arc<Semaphore>,
}

impl Default for Nsm {
    fn default() -> Self {
        Self::at(DEVICE)
    }
}

impl Nsm {
    /// The module behind this device.
    #[must_use]
    pub fn at(device: impl Into<PathBuf>) -> Self {
        Self { device: device.into(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// What the module says of itself; nothing where there is none.
    ///
    /// # Errors
    ///
    /// If an attestation document is asked for, and there is none to be had.
    pub async fn describe(&self, wish: &Describe) -> Result<Option<NsmDescription>, Failure> {
        let attestation = Attestation::wanted(wish)?;
        let wants_attestation = attestation.is_some();
        match self.ask(attestation).await {
            Ok(description) => Ok(Some(description)),
            Err(NsmError::Absent(_)) if !wants_attestation => Ok(None),
            Err(error) if !wants_attestation => {
                tracing::warn!(error = %Chain(&error), "failed to ask the NSM");
                Ok(None)
            }
            Err(error) => Err(Failure::new(Code::Unsupported, error.to_string())),
        }
    }

    async fn ask(&self, attestation: Option<Attestation>) -> Result<NsmDescription, NsmError> {
        // It is never closed.
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| NsmError::Gone)?;
        let path = self.device.clone();
        let asking = spawn_blocking(move || {
            let _turn = turn;
            let device = match File::options().read(true).write(true).open(&path) {
                Ok(device) => device,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(NsmError::Absent(path));
                }
                Err(source) => return Err(NsmError::Open { path, source }),
            };
            describe(attestation, |request| nsm_process_request(device.as_raw_fd(), request))
        });
        asking.await.unwrap_or(Err(NsmError::Gone))
    }
}

/// An attestation document that is wanted.
#[derive(Debug)]
struct Attestation {
    nonce: Option<Bytes>,
}

impl Attestation {
    fn wanted(wish: &Describe) -> Result<Option<Self>, Failure> {
        let refuse = |message| Err(Failure::new(Code::InvalidRequest, message));
        match &wish.nonce {
            Some(_) if !wish.attestation => {
                refuse("a nonce goes into an attestation document, and none is asked for".into())
            }
            Some(nonce) if nonce.as_slice().len() > MAX_NONCE => refuse(format!(
                "a nonce has at most {MAX_NONCE} bytes; this one has {}",
                nonce.as_slice().len()
            )),
            nonce => Ok(wish.attestation.then(|| Self { nonce: nonce.clone() })),
        }
    }
}

fn describe(
    attestation: Option<Attestation>,
    ask: impl Fn(Request) -> Response,
) -> Result<NsmDescription, NsmError> {
    let (module, version, count) = match ask(Request::DescribeNSM) {
        Response::DescribeNSM {
            module_id,
            version_major,
            version_minor,
            version_patch,
            max_pcrs,
            ..
        } => (module_id, format!("{version_major}.{version_minor}.{version_patch}"), max_pcrs),
        other => return Err(NsmError::new("DescribeNSM", other)),
    };
    let mut pcrs = Vec::new();
    for index in 0..count.min(MAX_PCRS) {
        match ask(Request::DescribePCR { index }) {
            Response::DescribePCR { lock: locked, data } => {
                if locked || data.iter().any(|byte| *byte != 0) {
                    pcrs.push(Pcr { index, value: hex(&data), locked });
                }
            }
            other => return Err(NsmError::new("DescribePCR", other)),
        }
    }
    let attestation = attestation.map(|wanted| attest(wanted, &ask)).transpose()?;
    Ok(NsmDescription { module, version, pcrs, attestation })
}

fn attest(wanted: Attestation, ask: impl Fn(Request) -> Response) -> Result<Bytes, NsmError> {
    let nonce = wanted.nonce.map(|nonce| nonce.as_slice().to_vec().into());
    match ask(Request::Attestation { user_data: None, nonce, public_key: None }) {
        Response::Attestation { document } => Ok(document.into()),
        other => Err(NsmError::new("Attestation", other)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug, Error)]
enum NsmError {
    #[error("this machine is no enclave: it has no `{}`", .0.display())]
    Absent(PathBuf),
    #[error("the Nitro Security Module did not answer")]
    Gone,
    #[error("failed to open `{}`", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the Nitro Security Module answered `{code:?}` to `{request}`")]
    Refused { request: &'static str, code: ErrorCode },
    #[error("the Nitro Security Module answered something else to `{request}`")]
    Strange { request: &'static str },
}

impl NsmError {
    fn new(request: &'static str, response: Response) -> Self {
        match response {
            Response::Error(code) => Self::Refused { request, code },
            _ => Self::Strange { request },
        }
    }
}

const DEVICE: &str = "/dev/nsm";
/// What the module takes; see the attestation process of the Nitro Enclaves documents.
const MAX_NONCE: usize = 512;
/// Twice as many as there are, so that the number is bounded whatever the module says.
const MAX_PCRS: u16 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with four registers, of which 0 and 3 are locked and 1 has a value.
    fn module(request: Request) -> Response {
        match request {
            Request::Attestation { nonce, .. } => Response::Attestation {
                document: nonce.map_or_else(|| b"document".to_vec(), |nonce| nonce.to_vec()),
            },
            Request::DescribeNSM => Response::DescribeNSM {
                version_major: 1,
                version_minor: 2,
                version_patch: 3,
                module_id: "i-0123-enc4567".into(),
                max_pcrs: 4,
                locked_pcrs: [0, 3].into(),
                digest: aws_nitro_enclaves_nsm_api::api::Digest::SHA384,
            },
            Request::DescribePCR { index } => Response::DescribePCR {
                lock: index == 0 || index == 3,
                data: vec![if index < 2 { 0xa0 + u8::try_from(index).unwrap() } else { 0 }; 2],
            },
            _ => Response::Error(ErrorCode::InvalidOperation),
        }
    }

    #[test]
    fn registers_that_say_nothing_are_left_out() {
        let description = describe(None, module).unwrap();
        assert_eq!(description.module, "i-0123-enc4567");
        assert_eq!(description.version, "1.2.3");
        let pcr = |index, value: &str, locked| Pcr { index, value: value.into(), locked };
        assert_eq!(
            description.pcrs,
            [pcr(0, "a0a0", true), pcr(1, "a1a1", false), pcr(3, "0000", true)]
        );
        assert_eq!(description.attestation, None);
    }

    #[test]
    fn a_document_contains_the_nonce() {
        let nonce = Bytes::from(b"fresh".to_vec());
        let wish = Describe { attestation: true, nonce: Some(nonce.clone()) };
        let wanted = Attestation::wanted(&wish).unwrap();
        assert_eq!(describe(wanted, module).unwrap().attestation, Some(nonce));
        let wanted = Attestation::wanted(&Describe { attestation: true, nonce: None }).unwrap();
        let document = describe(wanted, module).unwrap().attestation.unwrap();
        assert_eq!(document.as_slice(), b"document");
    }

    #[test]
    fn a_nonce_without_a_document_or_of_too_many_bytes_is_refused() {
        let wish =
            |attestation, bytes| Describe { attestation, nonce: Some(Bytes::from(vec![7; bytes])) };
        assert!(Attestation::wanted(&wish(true, MAX_NONCE)).is_ok());
        for wish in [wish(false, 8), wish(true, MAX_NONCE + 1)] {
            assert_eq!(Attestation::wanted(&wish).unwrap_err().code, Code::InvalidRequest);
        }
    }

    #[test]
    fn a_module_that_refuses_is_no_reason_to_panic() {
        let refusing = |_| Response::Error(ErrorCode::InternalError);
        assert_eq!(
            describe(None, refusing).unwrap_err().to_string(),
            "the Nitro Security Module answered `InternalError` to `DescribeNSM`"
        );
        let strange = |_| Response::LockPCR;
        assert!(matches!(describe(None, strange), Err(NsmError::Strange { .. })));
    }

    #[tokio::test]
    async fn a_machine_without_a_module_says_so_only_to_whoever_wants_a_document() {
        let nsm = Nsm::at("/nowhere/nsm");
        let plain = Describe { attestation: false, nonce: None };
        assert_eq!(nsm.describe(&plain).await, Ok(None));
        let attested = Describe { attestation: true, nonce: None };
        let failure = nsm.describe(&attested).await.unwrap_err();
        assert_eq!(failure.code, Code::Unsupported);
        assert_eq!(failure.message, "this machine is no enclave: it has no `/nowhere/nsm`");
    }
}
