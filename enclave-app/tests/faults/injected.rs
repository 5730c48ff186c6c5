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

/// Hours of it.
pub(crate) mod exhaustive {
    use super::{EVERY_VALUE, fail_everywhere};

    crate::tests![every_function_may_return_anything];

    async fn every_function_may_return_anything() {
        fail_everywhere(|function| {
            let both = |value| {
                [format!("{function} {value:#x} 1"), format!("{function} after:{value:#x} 1")]
            };
            EVERY_VALUE.flat_map(both).collect()
        })
        .await;
    }
}

async fn every_function_may_fail() {
    fail_everywhere(|function| {
        VALUES.iter().map(|value| format!("{function} {value:#x} 1")).collect()
    })
    .await;
}

async fn every_function_may_do_its_work_and_deny_it() {
    fail_everywhere(|function| {
        LIES.iter().map(|value| format!("{function} after:{value:#x} 1")).collect()
    })
    .await;
}

async fn every_function_may_crash_or_hang() {
    fail_everywhere(|function| {
        // Also not the first time, when the worker is in the midst of something.
        ["crash 1", "crash 1 1", "hang 1"].map(|how| format!("{function} {how}")).into()
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
    let locked = LOCKED.iter().any(|value| fault.contains(&format!("{value:#x} ")));
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

/// One of each row in the worker's table of errors at least.
const VALUES: &[u64] = &[
    0x05,        // CKR_GENERAL_ERROR
    0x06,        // CKR_FUNCTION_FAILED, as CloudHSM throttles
    0x07,        // CKR_ARGUMENTS_BAD
    0x20,        // CKR_DATA_INVALID
    0x30,        // CKR_DEVICE_ERROR, as when the link was cut
    0x40,        // CKR_ENCRYPTED_DATA_INVALID
    0x54,        // CKR_FUNCTION_NOT_SUPPORTED
    0x68,        // CKR_KEY_FUNCTION_NOT_PERMITTED
    0xa0,        // CKR_PIN_INCORRECT
    0xa4,        // CKR_PIN_LOCKED
    0xb3,        // CKR_SESSION_HANDLE_INVALID
    0xd1,        // CKR_TEMPLATE_INCONSISTENT
    0xe0,        // CKR_TOKEN_NOT_PRESENT
    0x100,       // CKR_USER_ALREADY_LOGGED_IN
    0x101,       // CKR_USER_NOT_LOGGED_IN
    0x190,       // CKR_CRYPTOKI_NOT_INITIALIZED
    0x8000_0001, // a vendor's
];

/// What may be said of something that was done all the same.
const LIES: &[u64] = &[0x06, 0x30, 0x82, 0xb3, 0x101, 0x150, 0x8000_0001];

/// All that PKCS#11 2.40 knows lie here, among others.
const EVERY_VALUE: std::ops::RangeInclusive<u64> = 1..=0x1b8;

/// The HSM is believed when it says that a user is locked: CKR_PIN_EXPIRED, CKR_PIN_LOCKED,
/// CKR_USER_PIN_NOT_INITIALIZED.
const LOCKED: &[u64] = &[0xa3, 0xa4, 0x102];
