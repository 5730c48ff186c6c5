//! The HSM locks a user after five wrong passwords.

use std::time::{Duration, Instant};

use enclave_app::hsm::Hsm;
use futures_util::future::{join, join_all};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::answer::{Code, Failure};
use tokio::time::sleep;

use crate::hsm::{random, send};
use crate::lab::{Lab, PIN, until};
use crate::source::Source;
use crate::tests;

tests![
    a_changed_password_is_fetched_when_the_old_one_is_refused,
    a_failed_start_is_not_repeated_without_a_request,
    a_locked_user_is_left_alone,
    a_new_version_ends_the_latch,
    a_password_that_the_hsm_no_longer_takes_is_tried_twice,
    a_wrong_password_is_tried_twice_at_most,
    logins_that_fail_otherwise_are_bounded_by_the_backoff,
    no_return_value_of_a_login_makes_a_burst,
    the_password_is_kept_for_the_next_worker,
];

async fn a_wrong_password_is_tried_twice_at_most() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", "user:wrong")]));
    for _ in 0..2 {
        for failure in at_once(&hsm, &pins).await {
            assert_eq!((failure.code, failure.retryable), (Code::LoginRefused, false));
            assert!(failure.message.contains("version `1`"), "{failure}");
            assert!(!failure.message.contains("wrong"), "{failure}");
        }
    }
    assert_eq!(lab.count("C_Login"), 2);
}

async fn a_changed_password_is_fetched_when_the_old_one_is_refused() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", "user:old"), ("2", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    assert_eq!((lab.count("C_Login"), pins.times_asked_anew()), (2, 1));
}

async fn a_new_version_ends_the_latch() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", "user:wrong")]));
    let latched = send(&hsm, &pins, random()).await.unwrap_err();
    let since = Instant::now();
    assert!(latched.message.ends_with("no login is tried until the secret changes"), "{latched}");
    pins.rotate("2", PIN);
    let asked = pins.times_asked_anew();
    // Nobody asks for the secret again and again.
    while since.elapsed() < Duration::from_secs(9) {
        let begun = Instant::now();
        assert_eq!(send(&hsm, &pins, random()).await.unwrap_err(), latched);
        assert!(begun.elapsed() < Duration::from_millis(500));
        // The pace of the requests, of which none may cause anything.
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(pins.times_asked_anew(), asked);
    // Ten seconds are what enclave-app promises; nothing happens when they are over.
    sleep(Duration::from_secs(10).saturating_sub(since.elapsed())).await;
    send(&hsm, &pins, random()).await.unwrap();
    assert_eq!((lab.count("C_Login"), pins.times_asked_anew()), (3, asked + 1));
}

async fn a_password_that_the_hsm_no_longer_takes_is_tried_twice() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    lab.change_pin(PIN, "user:another");
    kill_worker(&lab);
    for failure in at_once(&hsm, &pins).await {
        assert_eq!(failure.code, Code::LoginRefused);
    }
    assert_eq!(lab.count("C_Login"), 3);
}

async fn the_password_is_kept_for_the_next_worker() {
    let lab = Lab::new();
    let hsm = lab.hsm();
    send(&hsm, &Source::new(&[("1", PIN)]), random()).await.unwrap();
    kill_worker(&lab);
    // A source that is wrong is not even asked.
    let pins = Source::new(&[("2", "user:wrong")]);
    send(&hsm, &pins, random()).await.unwrap();
    assert_eq!(lab.count("C_Login"), 2);
}

async fn a_locked_user_is_left_alone() {
    for value in ["0xa3", "0xa4", "0x102"] {
        let lab = Lab::new();
        let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
        lab.inject(&format!("C_Login {value}"));
        for failure in at_once(&hsm, &pins).await {
            assert_eq!(failure.code, Code::LoginRefused, "{failure}");
            assert!(failure.message.contains("locked"), "{failure}");
        }
        assert_eq!(lab.count("C_Login"), 1, "{value}");
    }
}

async fn a_failed_start_is_not_repeated_without_a_request() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    lab.inject("C_Initialize slow:100\nC_Login 0x30");
    let first = send(&hsm, &pins, random());
    // The others bring a password, too, while the first is not yet tried.
    let others = async {
        until(|| lab.count("C_Initialize") > 0).await;
        at_once(&hsm, &pins).await
    };
    join(first, others).await.0.unwrap_err();
    // Nothing happens, so there is nothing to wait for.
    sleep(Duration::from_millis(700)).await;
    assert_eq!(lab.count("C_Login"), 1);
}

async fn no_return_value_of_a_login_makes_a_burst() {
    // CKR_PIN_INCORRECT, _INVALID, _LEN_RANGE, CKR_ARGUMENTS_BAD
    for value in ["0xa0", "0xa1", "0xa2", "0x7", "after:0xa0"] {
        let lab = Lab::new();
        let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN), ("2", PIN)]));
        lab.inject(&format!("C_Login {value}"));
        for _ in 0..3 {
            for failure in at_once(&hsm, &pins).await {
                assert_eq!(failure.code, Code::LoginRefused, "{value}: {failure}");
            }
        }
        // Once with the first version, and twice with the second.
        assert_eq!(lab.count("C_Login"), 3, "{value}");
    }
}

async fn logins_that_fail_otherwise_are_bounded_by_the_backoff() {
    // CKR_FUNCTION_FAILED, CKR_DEVICE_ERROR, CKR_USER_ALREADY_LOGGED_IN, a vendor's
    for value in ["0x6", "0x30", "0x100", "0x80000001", "crash", "after:0x30"] {
        let lab = Lab::new();
        let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
        lab.inject(&format!("C_Login {value}"));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            for failure in at_once(&hsm, &pins).await {
                assert!(failure.retryable, "{value}: {failure}");
            }
        }
        // The pauses are at least 50, 100, 200, 400, 500, 500, ... milliseconds.
        assert!(lab.count("C_Login") <= 12, "{value}: {}", lab.count("C_Login"));
        lab.heal();
        let begun = Instant::now();
        send(&hsm, &pins, random()).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    }
}

/// Fifty requests, which all fail.
async fn at_once(hsm: &Hsm, pins: &Source) -> Vec<Failure> {
    let requests = (0..50).map(|_| send(hsm, pins, random()));
    join_all(requests).await.into_iter().map(Result::unwrap_err).collect()
}

fn kill_worker(lab: &Lab) {
    kill(Pid::from_raw(lab.worker().unwrap()), Signal::SIGKILL).unwrap();
}
