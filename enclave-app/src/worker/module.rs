//! The PKCS#11 module, and the token that it leads to.

use std::sync::atomic::AtomicBool;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use protocol::action::Token;

use crate::pin::Pin;
use crate::wire::Open;

use super::cipher;
use super::fault::Trouble;

/// A loaded module with a slot chosen. There is one in the life of a process.
pub(super) struct Module {
    pkcs11: Pkcs11,
    slot: Slot,
    /// Whether CloudHSM's own AES-GCM is there.
    pub(super) cloudhsm_gcm: bool,
    /// Whether the token hashes for ECDSA.
    pub(super) ecdsa_sha256: bool,
    /// Whether this token was found not to change the labels of keys.
    pub(super) labels_fixed: AtomicBool,
}

impl Module {
    pub(super) fn open(open: &Open) -> Result<(Self, Token), Trouble> {
        let pkcs11 = Pkcs11::new(&open.module)?;
        pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let (slot, info) = find_token(&pkcs11, open.token.as_deref())?;
        let library = pkcs11.get_library_info().ok().map_or_else(String::new, |library| {
            let version = library.library_version();
            let description = library.library_description().trim();
            format!("{description} {}.{}", version.major(), version.minor()).trim().to_owned()
        });
        let token = Token {
            module: open.module.display().to_string(),
            library,
            slot: slot.id(),
            label: info.label().trim().to_owned(),
            manufacturer: info.manufacturer_id().trim().to_owned(),
            model: info.model().trim().to_owned(),
            serial: info.serial_number().trim().to_owned(),
            firmware: {
                let version = info.firmware_version();
                format!("{}.{}", version.major(), version.minor())
            },
        };
        let mechanisms = pkcs11.get_mechanism_list(slot)?;
        let module = Self {
            cloudhsm_gcm: offers_cloudhsm_gcm(&pkcs11, slot)?,
            ecdsa_sha256: mechanisms.contains(&MechanismType::ECDSA_SHA256),
            labels_fixed: AtomicBool::new(false),
            pkcs11,
            slot,
        };
        Ok((module, token))
    }

    /// A new session. It is logged in if any is.
    pub(super) fn session(&self) -> Result<Session, Trouble> {
        Ok(self.pkcs11.open_rw_session(self.slot)?)
    }

    pub(super) fn login(&self, session: &Session, pin: &Pin) -> Result<(), Trouble> {
        let info = self.pkcs11.get_token_info(self.slot)?;
        if info.user_pin_locked() {
            return Err(Trouble::Locked { message: "the HSM has locked the user of the secret" });
        }
        if info.user_pin_final_try() {
            let message = "the HSM allows the user of the secret one more attempt before it locks \
                           it, so none is made";
            return Err(Trouble::Locked { message });
        }
        Ok(session.login(UserType::User, Some(&AuthPin::from(pin.expose())))?)
    }

    pub(super) fn finalize(self) {
        // The process ends, whatever comes of this.
        let _ = self.pkcs11.finalize();
    }
}

/// The token with this label, or the first that is initialized. Slots are numbered as the module
/// likes, and some of them may be out of order.
fn find_token(pkcs11: &Pkcs11, label: Option<&str>) -> Result<(Slot, TokenInfo), Trouble> {
    let mut seen = Vec::new();
    let mut failed = None;
    for slot in pkcs11.get_slots_with_token()? {
        match pkcs11.get_token_info(slot) {
            Ok(info) if !info.token_initialized() => {}
            Ok(info) if label.is_none_or(|label| info.label().trim_end() == label) => {
                return Ok((slot, info));
            }
            Ok(info) => seen.push(format!("`{}`", info.label())),
            Err(error) => failed = Some(error),
        }
    }
    Err(match (failed, label) {
        (Some(error), _) => error.into(),
        (None, None) => Trouble::Broken {
            message: "the PKCS#11 module has no token".into(),
            cause: "C_GetSlotList: no token".into(),
        },
        (None, Some(label)) => Trouble::Broken {
            message: format!("the PKCS#11 module has no token `{label}`"),
            cause: format!("C_GetSlotList: no token `{label}` among {}", seen.join(", ")),
        },
    })
}

/// Vendors' mechanisms are not in the list that `cryptoki` gives.
fn offers_cloudhsm_gcm(pkcs11: &Pkcs11, slot: Slot) -> Result<bool, Trouble> {
    match pkcs11.get_mechanism_info(slot, cipher::cloudhsm_gcm()?) {
        Ok(info) => Ok(info.encrypt() && info.decrypt()),
        Err(error) => match Trouble::from(error) {
            trouble if trouble.is_survivable() => Ok(false),
            trouble => Err(trouble),
        },
    }
}
