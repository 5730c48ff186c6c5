//! Opening the module, logging in, and the end of a worker.

use std::collections::BTreeSet;
use std::io::Write;

use enclave_app::wire::{Effect, FaultKind, Order};
use protocol::action::{Action, ListKeys};
use protocol::answer::Code;
use protocol::key::KeyKind;

use crate::lab::{Leg, MODULE, PIN, Tokens, Worker};

crate::tests![
    a_file_that_is_no_module_is_told_apart_from_a_missing_token,
    a_token_without_an_owner_is_not_taken,
    a_worker_ends_with_its_socket,
    a_worker_gives_up_on_what_is_no_call,
    a_wrong_password_is_refused_and_a_right_one_taken_after_it,
    calls_run_at_once_and_each_gets_its_own_reply,
    no_reply_tells_the_password,
    orders_come_in_their_order,
    the_token_is_the_one_with_the_label,
];

fn the_token_is_the_one_with_the_label(_: Leg) {
    let tokens = Tokens::none();
    for label in ["hsm1", "hsm2", "hsm 3"] {
        tokens.add(label);
    }
    let mut slots = BTreeSet::new();
    for label in ["hsm1", "hsm2", "hsm 3"] {
        let mut worker = Worker::start(&tokens);
        let Ok(Effect::Opened(token)) = worker.open(Some(label)) else { panic!("{label}") };
        assert_eq!(token.label, label);
        assert_eq!(token.module, MODULE);
        assert_eq!(token.manufacturer, "SoftHSM project");
        assert!(token.library.starts_with("Implementation of PKCS11 2."), "{}", token.library);
        slots.insert(token.slot);
    }
    assert_eq!(slots.len(), 3);
    for label in ["hsm", "HSM1", "hsm1 2", ""] {
        let fault = Worker::start(&tokens).open(Some(label)).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Broken, "`{label}`");
        assert_eq!(fault.failure.code, Code::HsmUnavailable);
        assert_eq!(fault.failure.message, format!("the PKCS#11 module has no token `{label}`"));
    }
    assert!(matches!(Worker::start(&tokens).open(None), Ok(Effect::Opened(_))));
}

fn a_token_without_an_owner_is_not_taken(_: Leg) {
    // SoftHSM always shows one more slot, whose token is not initialized.
    let fault = Worker::start(&Tokens::none()).open(None).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Broken);
    assert_eq!(fault.failure.message, "the PKCS#11 module has no token");
}

fn a_file_that_is_no_module_is_told_apart_from_a_missing_token(leg: Leg) {
    let tokens = Tokens::new(leg);
    for path in ["/nonexistent/module.so", "/etc/passwd", "libc.so.6"] {
        let mut worker = Worker::start(&tokens);
        let fault = worker.open_module(path.into(), None).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Broken);
        assert_eq!(fault.failure.code, Code::HsmUnavailable);
        assert!(!fault.failure.message.contains('/'), "{}", fault.failure.message);
        assert!(worker.stop());
    }
}

fn a_wrong_password_is_refused_and_a_right_one_taken_after_it(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::start(&tokens);
    worker.open(None).unwrap();
    let fault = worker.login("crypto-user:wrong").unwrap_err();
    assert_eq!(fault.kind, FaultKind::PinRefused);
    assert_eq!(fault.failure.code, Code::LoginRefused);
    assert_eq!(fault.cause, "C_Login: CKR_PIN_INCORRECT");
    assert!(matches!(worker.login(PIN), Ok(Effect::LoggedIn)));
    assert!(worker.create("k", KeyKind::Aes256).unwrap().created);
}

fn no_reply_tells_the_password(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::start(&tokens);
    worker.open(None).unwrap();
    for pin in ["canary:canary", "", "canary"] {
        let fault = worker.login(pin).unwrap_err();
        assert!(!format!("{fault:?}").contains("canary"), "{fault:?}");
    }
}

fn orders_come_in_their_order(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::start(&tokens);
    let list = || Order::Act(Action::ListKeys(ListKeys {}));
    assert_eq!(worker.call(list()).unwrap_err().failure.code, Code::Internal);
    assert_eq!(worker.login(PIN).unwrap_err().failure.code, Code::Internal);
    worker.open(None).unwrap();
    assert_eq!(worker.open(None).unwrap_err().failure.code, Code::Internal);
    assert_eq!(worker.call(list()).unwrap_err().failure.code, Code::Internal);
    worker.login(PIN).unwrap();
    assert_eq!(worker.login(PIN).unwrap_err().failure.code, Code::Internal);
    assert!(worker.call(list()).is_ok());
}

fn calls_run_at_once_and_each_gets_its_own_reply(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    let mut waiting = BTreeSet::new();
    for number in 0..50 {
        let label = format!("k{number}").parse().unwrap();
        let spec = protocol::action::KeySpec { label, kind: KeyKind::Aes256, usage: None };
        waiting.insert(worker.send(Order::Act(Action::CreateKey(spec))));
    }
    while !waiting.is_empty() {
        let reply = worker.receive();
        assert!(waiting.remove(&reply.number), "{reply:?}");
        assert!(reply.result.is_ok(), "{reply:?}");
    }
    assert_eq!(crate::lab::listed(&mut worker).keys.len(), 50);
}

fn a_worker_ends_with_its_socket(leg: Leg) {
    let tokens = Tokens::new(leg);
    assert!(Worker::start(&tokens).stop());
    let mut worker = Worker::start(&tokens);
    worker.open(None).unwrap();
    assert!(worker.stop());
    assert!(Worker::ready(&tokens).stop());
}

fn a_worker_gives_up_on_what_is_no_call(leg: Leg) {
    let tokens = Tokens::new(leg);
    for bytes in [&b"\x02\0\0\0{}"[..], b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x09\0\0\0{"] {
        let mut worker = Worker::ready(&tokens);
        worker.socket().write_all(bytes).unwrap();
        assert!(!worker.stop(), "{bytes:?}");
    }
}
