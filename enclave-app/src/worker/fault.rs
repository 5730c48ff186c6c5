//! What follows from an error of the module.
//!
//! | return values | kind | code |
//! |---|---|---|
//! | `CKR_PIN_INCORRECT`, `_INVALID`, `_LEN_RANGE`; `CKR_ARGUMENTS_BAD` of `C_Login` | PIN refused | login-refused |
//! | `CKR_PIN_LOCKED`, `CKR_PIN_EXPIRED`, `CKR_USER_PIN_NOT_INITIALIZED` | user locked | login-refused |
//! | the link, the token, the session or the module is gone or out of step, or out of memory | broken | hsm-unavailable |
//! | `CKR_KEY_FUNCTION_NOT_PERMITTED`, `CKR_KEY_TYPE_INCONSISTENT` | call | not-permitted |
//! | `CKR_ENCRYPTED_DATA_INVALID`, `_LEN_RANGE` | call | not-authentic |
//! | `CKR_DATA_INVALID`, `_LEN_RANGE` | call | invalid-request |
//! | mechanisms, curves, sizes and functions that the token has not | call | unsupported |
//! | templates, attributes and arguments that the token refuses | call | hsm-error, final |
//! | all others, such as `CKR_FUNCTION_FAILED`, which is how CloudHSM throttles | call | hsm-error |

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use protocol::answer::{Code, Failure};

use crate::wire::{Fault, FaultKind};

/// Why an order was not carried out.
pub(super) enum Trouble {
    /// The module cannot be used, though no function of it said so.
    Broken { message: String, cause: String },
    /// Another login could lock the user.
    Locked { message: &'static str },
    /// The module says so.
    Module(Error),
    /// We say so.
    Refused(Failure),
}

impl Trouble {
    pub(super) fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(Failure::new(code, message))
    }

    /// Whether the worker is still of use.
    pub(super) const fn is_survivable(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Locked { .. } => false,
            Self::Module(error) => !matches!(classify(error).0, FaultKind::Broken),
            Self::Refused(_) => true,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Module(error)
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Broken { message, cause } => Self {
                kind: FaultKind::Broken,
                failure: Failure::new(Code::HsmUnavailable, message),
                cause,
            },
            Trouble::Locked { message } => Self {
                kind: FaultKind::UserLocked,
                failure: Failure::new(Code::LoginRefused, message),
                cause: "C_GetTokenInfo: CKF_USER_PIN_LOCKED or CKF_USER_PIN_FINAL_TRY".into(),
            },
            Trouble::Module(error) => {
                let (kind, code) = classify(&error);
                let failure = Failure::new(code, message(kind, code, &error));
                let retryable = failure.retryable && !is_final(&error);
                Self { kind, failure: Failure { retryable, ..failure }, cause: cause(&error) }
            }
            Trouble::Refused(failure) => {
                let cause = failure.code.to_string();
                Self { kind: FaultKind::Call, failure, cause }
            }
        }
    }
}

const fn classify(error: &Error) -> (FaultKind, Code) {
    match error {
        Error::LibraryLoading(_) | Error::MissingSymbol(_) => {
            (FaultKind::Broken, Code::HsmUnavailable)
        }
        Error::NullFunctionPointer => (FaultKind::Call, Code::Unsupported),
        Error::Pkcs11(RvError::ArgumentsBad, Function::Login) => {
            (FaultKind::PinRefused, Code::LoginRefused)
        }
        Error::Pkcs11(value, _) => classify_value(value),
        _ => (FaultKind::Call, Code::HsmError),
    }
}

const fn classify_value(value: &RvError) -> (FaultKind, Code) {
    match value {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
            (FaultKind::PinRefused, Code::LoginRefused)
        }
        RvError::PinExpired | RvError::PinLocked | RvError::UserPinNotInitialized => {
            (FaultKind::UserLocked, Code::LoginRefused)
        }
        RvError::CantLock
        | RvError::CryptokiAlreadyInitialized
        | RvError::CryptokiNotInitialized
        | RvError::DeviceError
        | RvError::DeviceMemory
        | RvError::DeviceRemoved
        | RvError::FipsSelfTestFailed
        | RvError::GeneralError
        | RvError::HostMemory
        | RvError::LibraryLoadFailed
        | RvError::MutexBad
        | RvError::MutexNotLocked
        | RvError::NeedToCreateThreads
        // A session that is in the midst of something, or not where we believe it is.
        | RvError::OperationActive
        | RvError::OperationNotInitialized
        | RvError::SessionClosed
        | RvError::SessionCount
        | RvError::SessionExists
        | RvError::SessionHandleInvalid
        | RvError::SessionParallelNotSupported
        | RvError::SessionReadOnly
        | RvError::SessionReadOnlyExists
        | RvError::SessionReadWriteSoExists
        | RvError::SlotIdInvalid
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::UserAlreadyLoggedIn
        | RvError::UserAnotherAlreadyLoggedIn
        | RvError::UserNotLoggedIn
        | RvError::UserTooManyTypes
        | RvError::UserTypeInvalid => (FaultKind::Broken, Code::HsmUnavailable),
        RvError::KeyFunctionNotPermitted | RvError::KeyTypeInconsistent => {
            (FaultKind::Call, Code::NotPermitted)
        }
        RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange => {
            (FaultKind::Call, Code::NotAuthentic)
        }
        RvError::DataInvalid | RvError::DataLenRange => (FaultKind::Call, Code::InvalidRequest),
        RvError::CurveNotSupported
        | RvError::DomainParamsInvalid
        | RvError::FunctionNotSupported
        | RvError::KeySizeRange
        | RvError::MechanismInvalid
        | RvError::RandomNoRng
        | RvError::TokenWriteProtected => (FaultKind::Call, Code::Unsupported),
        _ => (FaultKind::Call, Code::HsmError),
    }
}

/// Whether the same call would fail again for sure.
const fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::ActionProhibited
                | RvError::ArgumentsBad
                | RvError::AttributeReadOnly
                | RvError::AttributeTypeInvalid
                | RvError::AttributeValueInvalid
                | RvError::MechanismParamInvalid
                | RvError::TemplateIncomplete
                | RvError::TemplateInconsistent,
            _
        )
    )
}

/// One sentence for whoever asked.
fn message(kind: FaultKind, code: Code, error: &Error) -> String {
    let what = match (kind, code) {
        (FaultKind::Broken, _) => match error {
            Error::LibraryLoading(_) => "the PKCS#11 module cannot be loaded",
            _ => "the HSM cannot be used at present",
        },
        (FaultKind::PinRefused, _) => "the HSM refuses the password of the secret",
        (FaultKind::UserLocked, _) => "the HSM lets the user of the secret log in no more",
        (FaultKind::Call, Code::InvalidRequest) => "the HSM takes no such data, or not so much",
        (FaultKind::Call, Code::NotAuthentic) => NOT_AUTHENTIC,
        (FaultKind::Call, Code::NotPermitted) => "the HSM does not permit that use of the key",
        (FaultKind::Call, Code::Unsupported) => "the HSM cannot do that",
        (FaultKind::Call, _) => "the HSM refused",
    };
    match error {
        Error::Pkcs11(value, _) => format!("{what} ({})", name(*value)),
        _ => what.to_owned(),
    }
}

/// For the log.
fn cause(error: &Error) -> String {
    match error {
        Error::Pkcs11(value, function) => format!("C_{function:?}: {}", name(*value)),
        _ => error.to_string(),
    }
}

/// As PKCS#11 has it, such as `CKR_PIN_INCORRECT`.
fn name(value: RvError) -> String {
    let (RvError::VendorDefined(number) | RvError::UnknownErrorCode(number)) = value else {
        let mut name = String::from("CKR");
        for letter in format!("{value:?}").chars() {
            if letter.is_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        return name;
    };
    format!("{number:#010x}")
}

/// The sentence of [`Code::NotAuthentic`].
pub(super) const NOT_AUTHENTIC: &str =
    "the ciphertext was not made so by this key with this associated data";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_values_have_their_pkcs_11_names() {
        assert_eq!(name(RvError::PinIncorrect), "CKR_PIN_INCORRECT");
        assert_eq!(name(RvError::SessionReadWriteSoExists), "CKR_SESSION_READ_WRITE_SO_EXISTS");
        assert_eq!(name(RvError::VendorDefined(0x8000_0001)), "0x80000001");
        let error = Error::Pkcs11(RvError::DeviceError, Function::FindObjectsInit);
        assert_eq!(cause(&error), "C_FindObjectsInit: CKR_DEVICE_ERROR");
    }

    #[test]
    fn a_throttled_call_may_be_tried_again_and_a_refused_template_not() {
        let fault = |value| Fault::from(Trouble::from(Error::Pkcs11(value, Function::GenerateKey)));
        let throttled = fault(RvError::FunctionFailed);
        assert_eq!(throttled.kind, FaultKind::Call);
        assert_eq!(throttled.failure.code, Code::HsmError);
        assert!(throttled.failure.retryable);
        assert_eq!(throttled.failure.message, "the HSM refused (CKR_FUNCTION_FAILED)");
        let refused = fault(RvError::TemplateInconsistent);
        assert_eq!((refused.kind, refused.failure.code), (FaultKind::Call, Code::HsmError));
        assert!(!refused.failure.retryable);
    }

    #[test]
    fn a_login_with_bad_arguments_is_a_refused_password() {
        let error = |function| Trouble::from(Error::Pkcs11(RvError::ArgumentsBad, function));
        assert_eq!(Fault::from(error(Function::Login)).kind, FaultKind::PinRefused);
        assert_eq!(Fault::from(error(Function::OpenSession)).kind, FaultKind::Call);
    }
}
