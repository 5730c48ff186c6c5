//! Every function of the module that is used fails in every way, once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::hsm::everything;
use crate::lab::{Lab, PIN};
use crate::source::Source;
use crate::tests;

tests![
    every_function_may_crash_or_hang,
    every_function_may_do_its_work_and_deny_it,
    every_function_may_fail,
];

async fn every_function_may_fail() {
    fail_everywhere(|function| {
        VALUES.iter().map(|value| format!("{function} {value:#x} 1")).collect()
    })
    .await;
}

async fn every_function_may_do_its_work_and_deny_it() {
    fail_everywhere(|function| {
        VALUES.iter().map(|value| format!("{function} after:{value:#x} 1")).collect()
    })
    .await;
}

async fn every_function_may_crash_or_hang() {
    fail_everywhere(|function| {
        // Also not the first time, when the worker is in the midst of something.
        ["crash 1", "hang 1", "crash 1 1", "hang 1 1"].map(|how| format!("{function} {how}")).into()
    })
    .await;
}

async fn fail_everywhere(faults: impl Fn(&str) -> Vec<String>) {
    let lab = Lab::new();
    for function in functions(&lab).await {
        for fault in faults(&function) {
            fail_once(&lab, &fault).await;
        }
        assert_eq!(lab.labels(), Vec::<String>::new(), "{function} leaves keys behind");
    }
}

/// The functions that are called for all that a client can ask.
async fn functions(lab: &Lab) -> BTreeSet<String> {
    let hsm = lab.hsm();
    assert_eq!(everything(&hsm, &Source::new(&[("1", PIN)]), "good").await, []);
    hsm.shutdown().await;
    let functions: BTreeSet<_> = lab.calls().into_iter().collect();
    for used in ["C_Finalize", "C_GenerateKeyPair", "C_Initialize", "C_Login", "C_Verify"] {
        assert!(functions.contains(used), "{functions:?}");
    }
    functions
}

async fn fail_once(lab: &Lab, fault: &str) {
    let pins = Source::new(&[("1", PIN)]);
    let hsm = lab.hsm();
    let logins = lab.count("C_Login");
    lab.inject(fault);
    let failures = everything(&hsm, &pins, "fault").await;
    if is_pending(lab) {
        // It is called at the end only, or not so often.
        let begun = Instant::now();
        hsm.shutdown().await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{fault}");
        assert!(!is_pending(lab) || fault.ends_with("1 1"), "{fault} did not happen");
    }
    lab.heal();
    let locked = LOCKED.iter().any(|value| fault.contains(&format!("{value:#x}")));
    let hsm = if lab.worker().is_none() || locked { lab.hsm() } else { hsm };
    let after = everything(&hsm, &pins, "fault").await;
    assert_eq!(after, [], "{fault} is not over after {failures:?}");
    let logins = lab.count("C_Login") - logins;
    assert!(logins <= 3, "{fault} makes {logins} logins");
    hsm.shutdown().await;
}

/// Whether the fault has not happened yet.
fn is_pending(lab: &Lab) -> bool {
    lab.faults().split_whitespace().skip(2).any(|count| count != "0")
}

/// One at least of each row in the worker's table of errors.
const VALUES: &[u64] = &[
    0x02,        // CKR_HOST_MEMORY
    0x05,        // CKR_GENERAL_ERROR
    0x06,        // CKR_FUNCTION_FAILED, as CloudHSM throttles
    0x07,        // CKR_ARGUMENTS_BAD
    0x10,        // CKR_ATTRIBUTE_READ_ONLY
    0x13,        // CKR_ATTRIBUTE_VALUE_INVALID
    0x20,        // CKR_DATA_INVALID
    0x30,        // CKR_DEVICE_ERROR, as when the link was cut
    0x31,        // CKR_DEVICE_MEMORY
    0x32,        // CKR_DEVICE_REMOVED
    0x40,        // CKR_ENCRYPTED_DATA_INVALID
    0x54,        // CKR_FUNCTION_NOT_SUPPORTED
    0x60,        // CKR_KEY_HANDLE_INVALID
    0x68,        // CKR_KEY_FUNCTION_NOT_PERMITTED
    0x70,        // CKR_MECHANISM_INVALID
    0x82,        // CKR_OBJECT_HANDLE_INVALID
    0x90,        // CKR_OPERATION_ACTIVE
    0xa0,        // CKR_PIN_INCORRECT
    0xa4,        // CKR_PIN_LOCKED
    0xb1,        // CKR_SESSION_COUNT
    0xb3,        // CKR_SESSION_HANDLE_INVALID
    0xc0,        // CKR_SIGNATURE_INVALID
    0xd1,        // CKR_TEMPLATE_INCONSISTENT
    0xe0,        // CKR_TOKEN_NOT_PRESENT
    0x100,       // CKR_USER_ALREADY_LOGGED_IN
    0x101,       // CKR_USER_NOT_LOGGED_IN
    0x150,       // CKR_BUFFER_TOO_SMALL
    0x190,       // CKR_CRYPTOKI_NOT_INITIALIZED
    0x191,       // CKR_CRYPTOKI_ALREADY_INITIALIZED
    0x8000_0001, // a vendor's
    0xdead_beef, // nobody's
];

/// The HSM is believed when it says that a user is locked.
const LOCKED: &[u64] = &[0xa4];
