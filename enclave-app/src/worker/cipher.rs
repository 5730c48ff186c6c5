//! AES-GCM, with a nonce from the HSM.

use std::ptr;

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::vendor_defined::{CKM_VENDOR_DEFINED, VendorDefinedMechanism};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki_sys::{CK_GCM_PARAMS, CKM_AES_GCM};
use protocol::action::{Decrypt, Decrypted, Encrypt, Encrypted};
use protocol::answer::Code;
use protocol::key::KeyKind;
use protocol::label::KeyLabel;

use super::executor::Executor;
use super::fault::{NOT_AUTHENTIC, Trouble};
use super::keys::Held;

impl Executor {
    pub(super) fn encrypt(&self, encrypt: &Encrypt) -> Result<Encrypted, Trouble> {
        let Held { main: key, .. } = self.aes_key(&encrypt.label)?;
        let (plaintext, aad) = (encrypt.plaintext.as_slice(), encrypt.aad.as_slice());
        if self.module.cloudhsm_gcm {
            let params = cloudhsm_params(aad)?;
            let mechanism = cloudhsm_mechanism(&params)?;
            // It comes with its nonce in front.
            let ciphertext = self.session.encrypt(&mechanism, key.handle, plaintext)?;
            return Ok(Encrypted { ciphertext: ciphertext.into() });
        }
        let mut nonce = [0; NONCE_BYTES];
        self.session.generate_random_slice(&mut nonce)?;
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, aad, TAG_BITS.into())?);
        let ciphertext = self.session.encrypt(&mechanism, key.handle, plaintext)?;
        // Read after the fact, since a token may have taken one of its own.
        let ciphertext = [&nonce, &*ciphertext].concat();
        Ok(Encrypted { ciphertext: ciphertext.into() })
    }

    pub(super) fn decrypt(&mut self, decrypt: &Decrypt) -> Result<Decrypted, Trouble> {
        let Held { main: key, .. } = self.aes_key(&decrypt.label)?;
        let (ciphertext, aad) = (decrypt.ciphertext.as_slice(), decrypt.aad.as_slice());
        let Some((nonce, rest)) = ciphertext.split_first_chunk::<NONCE_BYTES>() else {
            return Err(not_authentic());
        };
        if rest.len() < TAG_BYTES {
            return Err(not_authentic());
        }
        let decrypted = if self.module.cloudhsm_gcm {
            let params = cloudhsm_params(aad)?;
            self.session.decrypt(&cloudhsm_mechanism(&params)?, key.handle, ciphertext)
        } else {
            let mut nonce = *nonce;
            let params = GcmParams::new(&mut nonce, aad, TAG_BITS.into())?;
            self.session.decrypt(&Mechanism::AesGcm(params), key.handle, rest)
        };
        match decrypted {
            Ok(plaintext) => Ok(Decrypted { plaintext: plaintext.into() }),
            Err(Error::Pkcs11(RvError::GeneralError, Function::Decrypt)) => self.explain(),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells a ciphertext that is not authentic from an HSM that is out of order: some modules
    /// say CKR_GENERAL_ERROR of both, SoftHSM among them.
    fn explain(&mut self) -> Result<Decrypted, Trouble> {
        self.session = self.module.session()?;
        self.session.generate_random_vec(1)?;
        Err(not_authentic())
    }

    fn aes_key(&self, label: &KeyLabel) -> Result<Held, Trouble> {
        let held = self.key(label)?;
        match held.traits().kind {
            Some(KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256) => Ok(held),
            _ => {
                let message = format!("the key `{label}` is no AES key");
                Err(Trouble::refused(Code::NotPermitted, message))
            }
        }
    }
}

/// CKM_CLOUDHSM_AES_GCM: the HSM makes the nonce, puts it in front of the ciphertext, and expects
/// it there again. SoftHSM has no such mechanism.
pub(super) fn cloudhsm_gcm() -> Result<MechanismType, Error> {
    MechanismType::new_vendor_defined(CKM_VENDOR_DEFINED | CKM_AES_GCM)
}

fn cloudhsm_mechanism(params: &CK_GCM_PARAMS) -> Result<Mechanism<'_>, Error> {
    Ok(Mechanism::VendorDefined(VendorDefinedMechanism::new(cloudhsm_gcm()?, Some(params))))
}

/// The parameters point to `aad`, and must not outlive it.
fn cloudhsm_params(aad: &[u8]) -> Result<CK_GCM_PARAMS, Error> {
    Ok(CK_GCM_PARAMS {
        pIv: ptr::null_mut(),
        ulIvLen: 0,
        ulIvBits: 0,
        // Modules only read it, whatever the type says.
        pAAD: aad.as_ptr().cast_mut(),
        ulAADLen: aad.len().try_into()?,
        ulTagBits: TAG_BITS,
    })
}

fn not_authentic() -> Trouble {
    Trouble::refused(Code::NotAuthentic, NOT_AUTHENTIC)
}

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const TAG_BITS: u64 = 128;
