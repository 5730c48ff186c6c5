//! A key that was acknowledged exists once; another never twice.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{join_all, select};
use protocol::action::{Created, Outcome};
use protocol::answer::Code;
use protocol::key::KeyKind;

use crate::hsm::{create, delete, key, random, send};
use crate::lab::{Lab, PIN, until};
use crate::source::Source;
use crate::tests;

tests![
    a_caller_who_leaves_does_not_let_another_make_the_key_twice,
    a_deleted_key_is_gone_whatever_fails,
    a_failed_creation_makes_one_key_at_most,
    a_thousand_requests_make_one_key,
];

async fn a_failed_creation_makes_one_key_at_most() {
    let lab = Lab::new();
    let pins = Source::new(&[("1", PIN)]);
    let mut case = 0;
    for (kind, generate) in
        [(KeyKind::Aes256, "C_GenerateKey"), (KeyKind::EcP256, "C_GenerateKeyPair")]
    {
        for function in [generate, "C_SetAttributeValue"] {
            for how in HOW {
                // The first of two calls, where there are two, and the other.
                for skip in 0..2 {
                    case += 1;
                    let fault = format!("{function} {how} 1 {skip}");
                    let label = format!("key {case}");
                    let hsm = lab.hsm();
                    lab.inject(&fault);
                    let one = async || send(&hsm, &pins, create(&label, kind)).await;
                    let results = join_all((0..6).map(|_| one())).await;
                    let keys = lab.keys(&label);
                    let done = results.iter().filter(|result| result.is_ok()).count();
                    assert!(keys == 1 || keys == 0 && done == 0, "{fault}: {keys}, {results:?}");
                    lab.heal();
                    one().await.unwrap();
                    assert_eq!(lab.keys(&label), 1, "{fault}");
                    hsm.shutdown().await;
                }
            }
        }
    }
    let mut labels = lab.labels();
    labels.sort();
    labels.dedup();
    assert_eq!(labels.len(), case, "each label is borne by one key: {labels:?}");
}

async fn a_deleted_key_is_gone_whatever_fails() {
    let lab = Lab::new();
    let pins = Source::new(&[("1", PIN)]);
    for (case, how) in HOW.iter().enumerate() {
        let label = format!("key {case}");
        let hsm = lab.hsm();
        send(&hsm, &pins, create(&label, KeyKind::EcP256)).await.unwrap();
        lab.inject(&format!("C_DestroyObject {how} 1 {}", case % 2));
        let deleted = send(&hsm, &pins, delete(&label)).await;
        assert!(deleted.is_err() || lab.keys(&label) == 0, "{how}");
        lab.heal();
        match send(&hsm, &pins, delete(&label)).await {
            Ok(_) => {}
            Err(failure) => assert_eq!(failure.code, Code::NotFound, "{how}"),
        }
        let gone = send(&hsm, &pins, key(&label)).await.unwrap_err();
        assert_eq!((gone.code, lab.keys(&label)), (Code::NotFound, 0), "{how}");
        hsm.shutdown().await;
    }
}

async fn a_caller_who_leaves_does_not_let_another_make_the_key_twice() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.patient_hsm(Duration::from_secs(5)), Source::new(&[("1", PIN)]));
    send(&hsm, &pins, random()).await.unwrap();
    lab.inject("C_GenerateKey slow:500 1");
    {
        let leaving = pin!(send(&hsm, &pins, create("key", KeyKind::Aes256)));
        let at_work = pin!(until(|| lab.count("C_GenerateKey") == 1));
        select(leaving, at_work).await;
    }
    assert_eq!(lab.keys("key"), 0, "it is not made yet");
    let created = send(&hsm, &pins, create("key", KeyKind::Aes256)).await.unwrap();
    assert!(matches!(created, Outcome::CreateKey(Created { created: false, .. })), "{created:?}");
    assert_eq!((lab.keys("key"), lab.count("C_GenerateKey")), (1, 1));
}

async fn a_thousand_requests_make_one_key() {
    let lab = Lab::new();
    let (hsm, pins) = (lab.patient_hsm(Duration::from_secs(8)), Source::new(&[("1", PIN)]));
    let client = async || {
        let mut made = 0;
        for _ in 0..20 {
            let created = send(&hsm, &pins, create("key", KeyKind::Aes256)).await.unwrap();
            let Outcome::CreateKey(created) = created else { panic!("{created:?}") };
            made += usize::from(created.created);
        }
        made
    };
    let made: usize = join_all((0..50).map(|_| client())).await.into_iter().sum();
    assert_eq!((made, lab.keys("key")), (1, 1));
}

/// Does nothing and says so; does it and denies it; says nothing any more.
const HOW: &[&str] =
    &["0x6", "0x30", "after:0x6", "after:0x30", "after:0x101", "after:0xb3", "crash", "hang"];
