//! HMAC (RFC 2104) and ECDSA (FIPS 186-5), both over SHA-256.

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use protocol::action::{Algorithm, Sign, Signed, Verified, Verify};
use protocol::answer::Code;
use protocol::key::KeyKind;
use protocol::label::KeyLabel;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::executor::Executor;
use super::fault::Trouble;
use super::keys::Held;

impl Executor {
    pub(super) fn sign(&self, sign: &Sign) -> Result<Signed, Trouble> {
        let held = self.key(&sign.label)?;
        let algorithm = algorithm(&held, &sign.label)?;
        let (mechanism, message) = self.digested(algorithm, sign.message.as_slice());
        let signature = self.session.sign(&mechanism, held.main.handle, &message)?;
        Ok(Signed { signature: signature.into(), algorithm })
    }

    pub(super) fn verify(&self, verify: &Verify) -> Result<Verified, Trouble> {
        let held = self.key(&verify.label)?;
        let algorithm = algorithm(&held, &verify.label)?;
        let key = verifying(&held, algorithm, &verify.label)?;
        let signature = verify.signature.as_slice();
        if signature.len() != length(algorithm) {
            return Ok(Verified { valid: false });
        }
        let (mechanism, message) = self.digested(algorithm, verify.message.as_slice());
        match self.session.verify(&mechanism, key, &message, signature) {
            Ok(()) => Ok(Verified { valid: true }),
            Err(Error::Pkcs11(RvError::SignatureInvalid | RvError::SignatureLenRange, _)) => {
                Ok(Verified { valid: false })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the token is to be given: not all of them hash for ECDSA.
    fn digested(
        &self,
        algorithm: Algorithm,
        message: &[u8],
    ) -> (Mechanism<'static>, Zeroizing<Vec<u8>>) {
        let whole = || Zeroizing::new(message.to_vec());
        match algorithm {
            Algorithm::EcdsaSha256 if self.module.ecdsa_sha256 => (Mechanism::EcdsaSha256, whole()),
            Algorithm::EcdsaSha256 => {
                (Mechanism::Ecdsa, Zeroizing::new(Sha256::digest(message).to_vec()))
            }
            Algorithm::HmacSha256 => (Mechanism::Sha256Hmac, whole()),
        }
    }
}

fn algorithm(held: &Held, label: &KeyLabel) -> Result<Algorithm, Trouble> {
    match held.traits().kind {
        Some(KeyKind::EcP256) => Ok(Algorithm::EcdsaSha256),
        Some(KeyKind::Hmac256) => Ok(Algorithm::HmacSha256),
        Some(KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256) | None => {
            let message = format!("the key `{label}` is neither for HMAC nor for ECDSA");
            Err(Trouble::refused(Code::NotPermitted, message))
        }
    }
}

fn verifying(held: &Held, algorithm: Algorithm, label: &KeyLabel) -> Result<ObjectHandle, Trouble> {
    match (algorithm, &held.public) {
        (Algorithm::HmacSha256, _) => Ok(held.main.handle),
        (Algorithm::EcdsaSha256, Some(public)) => Ok(public.handle),
        (Algorithm::EcdsaSha256, None) => {
            let message = format!("the key `{label}` has no public half to verify with");
            Err(Trouble::refused(Code::NotPermitted, message))
        }
    }
}

const fn length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::EcdsaSha256 => 64,
        Algorithm::HmacSha256 => 32,
    }
}
