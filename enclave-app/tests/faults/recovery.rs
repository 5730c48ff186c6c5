//! Service is back soon after a worker was lost, and nobody waits for ever.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use enclave_app::hsm::{CALL_TIMEOUT, Hsm, HsmConfig, Program};
use enclave_app::wire::Open;
use futures_util::future::{join, join_all};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::action::{Action, HsmDescription, ListKeys};
use protocol::answer::Code;
use protocol::key::KeyKind;
use tokio::time::{sleep, timeout};

use crate::hsm::{create, random, send};
use crate::lab::{Lab, PIN, until};
use crate::source::Source;
use crate::tests;

tests![
    a_frozen_worker_is_replaced,
    a_hang_is_over_in_ten_seconds,
    a_lost_link_is_not_noticed_where_it_is_soon_back,
    a_program_that_is_no_worker_is_a_clear_failure,
    a_shutdown_finalizes_the_module,
    callers_who_leave_take_nothing_with_them,
    service_is_back_after_a_kill_without_a_request,
    service_is_back_within_five_seconds_of_a_black_hole,
    service_is_back_within_a_second_of_a_kill_under_load,
    the_state_is_described,
    the_worker_does_not_see_aws_credentials,
    when_all_sessions_hang_the_others_do_not_wait_for_ever,
];

async fn a_hang_is_over_in_ten_seconds() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.patient_hsm(CALL_TIMEOUT), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    lab.inject("C_GenerateRandom hang 1");
    let begun = Instant::now();
    let failure = send(&hsm, &pins, random()).await.unwrap_err();
    assert_eq!((failure.code, failure.retryable), (Code::HsmUnavailable, true), "{failure}");
    assert!(begun.elapsed() >= CALL_TIMEOUT);
    let begun = Instant::now();
    send(&hsm, &pins, random()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

async fn a_frozen_worker_is_replaced() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    signal(&lab, Signal::SIGSTOP);
    let failure = send(&hsm, &pins, random()).await.unwrap_err();
    assert_eq!(failure.code, Code::HsmUnavailable, "{failure}");
    send(&hsm, &pins, random()).await.unwrap();
}

async fn a_lost_link_is_not_noticed_where_it_is_soon_back() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, create("key", KeyKind::Aes256)).await.unwrap();
    for fault in ["0x30", "after:0x30", "crash"] {
        lab.inject(&format!("C_FindObjectsInit {fault} 1"));
        let list = async || send(&hsm, &pins, Action::ListKeys(ListKeys {})).await;
        for result in join_all((0..20).map(|_| list())).await {
            result.unwrap();
        }
    }
    assert_eq!(lab.count("C_Login"), 4);
}

async fn when_all_sessions_hang_the_others_do_not_wait_for_ever() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.patient_hsm(Duration::from_secs(1)), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    lab.inject("C_GenerateRandom hang");
    let begun = Instant::now();
    for result in join_all((0..50).map(|_| send(&hsm, &pins, random()))).await {
        let failure = result.unwrap_err();
        assert!(failure.retryable, "{failure}");
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    lab.heal();
    send(&hsm, &pins, random()).await.unwrap();
}

async fn callers_who_leave_take_nothing_with_them() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    for step in 0..20 {
        lab.inject("C_GenerateKey slow:30 1");
        let label = format!("key {}", step % 3);
        let requests = (0..8).map(|_| send(&hsm, &pins, create(&label, KeyKind::Aes256)));
        // Each time a little further: in the start, in the queue, at the lock, in the call.
        let _ = timeout(Duration::from_millis(step * 7), join_all(requests)).await;
    }
    lab.heal();
    for step in 0..3 {
        let label = format!("key {step}");
        for result in
            join_all((0..8).map(|_| send(&hsm, &pins, create(&label, KeyKind::Aes256)))).await
        {
            result.unwrap();
        }
        assert_eq!(lab.keys(&label), 1);
    }
    assert_eq!(lab.count("C_Login"), 1, "no worker was lost");
}

async fn service_is_back_after_a_kill_without_a_request() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    signal(&lab, Signal::SIGKILL);
    let back = until(|| lab.count("C_Login") >= 2 && is_ready(&hsm));
    timeout(Duration::from_secs(1), back).await.expect("it is back by itself");
}

async fn service_is_back_within_five_seconds_of_a_black_hole() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.patient_hsm(CALL_TIMEOUT), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    lab.inject("C_Initialize hang");
    signal(&lab, Signal::SIGKILL);
    // One start has been given up, and the next has begun.
    until(|| lab.count("C_Initialize") >= 3).await;
    lab.heal();
    let begun = Instant::now();
    until(|| is_ready(&hsm)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

async fn service_is_back_within_a_second_of_a_kill_under_load() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    let (over, last) = (Cell::new(false), Cell::new(Instant::now()));
    let (made, worst) = (RefCell::new(Vec::new()), Cell::new(Duration::ZERO));
    let client = async |client: usize| {
        let mut number = 0;
        while !over.get() {
            let label = format!("key {client} {number}");
            if send(&hsm, &pins, create(&label, KeyKind::Aes256)).await.is_ok() {
                worst.set(worst.get().max(last.get().elapsed()));
                last.set(Instant::now());
                made.borrow_mut().push(label);
                number += 1;
            }
        }
    };
    let killer = async {
        for _ in 0..10 {
            // At any time, whatever is going on.
            sleep(Duration::from_millis(fastrand::u64(100..600))).await;
            if let Some(worker) = lab.worker() {
                // It may be gone by itself meanwhile.
                let _ = kill(Pid::from_raw(worker), Signal::SIGKILL);
            }
        }
        over.set(true);
    };
    join(join_all((0..8).map(client)), killer).await;
    send(&hsm, &pins, random()).await.unwrap();
    assert!(worst.get() < Duration::from_secs(1), "{:?}", worst.get());
    let mut labels = lab.labels();
    labels.sort();
    for label in made.into_inner() {
        assert!(labels.binary_search(&label).is_ok(), "`{label}` was acknowledged");
    }
    let twice: Vec<_> =
        labels.windows(2).filter(|two| two[0] == two[1] && two[0].starts_with("key")).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

async fn a_shutdown_finalizes_the_module() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    lab.inject("C_GenerateRandom slow:200 1");
    let (last, ()) = join(send(&hsm, &pins, random()), async {
        until(|| lab.count("C_GenerateRandom") >= 2).await;
        hsm.shutdown().await;
    })
    .await;
    last.expect("what has begun is finished");
    assert_eq!((lab.count("C_Finalize"), lab.worker()), (1, None));
    let failure = send(&hsm, &pins, random()).await.unwrap_err();
    assert_eq!(failure.message, "the application is stopping");
}

async fn the_state_is_described() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    assert_eq!(hsm.describe(), HsmDescription::Idle);
    lab.inject("C_Initialize 0x30");
    let failure = send(&hsm, &pins, random()).await.unwrap_err();
    assert_eq!(hsm.describe(), HsmDescription::Unavailable { reason: failure.message });
    lab.heal();
    send(&hsm, &pins, random()).await.unwrap();
    let HsmDescription::Ready(token) = hsm.describe() else { panic!("{:?}", hsm.describe()) };
    assert_eq!(token.label, "faults");
}

async fn a_program_that_is_no_worker_is_a_clear_failure() {
    for path in ["/bin/true", "/bin/cat", "/nonexistent"] {
        let program = Program { path: path.into(), arguments: Vec::new(), environment: Vec::new() };
        let open = Open { module: PathBuf::from("none.so"), token: None, sessions: 1 };
        let (call_timeout, request_timeout) = (Duration::from_secs(1), Duration::from_secs(2));
        let hsm = Hsm::new(HsmConfig { open, call_timeout, request_timeout, program });
        let failure = send(&hsm, &Source::new(&[("1", PIN)]), random()).await.unwrap_err();
        assert_eq!(failure.code, Code::HsmUnavailable, "{path}: {failure}");
    }
}

async fn the_worker_does_not_see_aws_credentials() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.hsm(), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    let environment = |pid: &str| std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let has = |environment: &[u8]| environment.split(|b| *b == 0).any(|v| v.starts_with(b"AWS_"));
    assert!(has(&environment("self")), "this process has one, see main()");
    assert!(!has(&environment(&lab.worker().unwrap().to_string())));
}

fn is_ready(hsm: &Hsm) -> bool {
    matches!(hsm.describe(), HsmDescription::Ready(_))
}

fn signal(lab: &Lab, signal: Signal) {
    kill(Pid::from_raw(lab.worker().unwrap()), signal).unwrap();
}
