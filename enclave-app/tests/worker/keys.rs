//! Finding, showing and destroying keys, and what needs none.

use protocol::action::{Action, Describe, Echo, Outcome, Random};
use protocol::answer::Code;
use protocol::key::{KeyKind, Usage};

use crate::lab::{Leg, Tokens, Worker, by, listed};

crate::tests![
    a_destroyed_key_is_gone_with_both_halves,
    a_key_that_is_not_there_is_not_found,
    keys_are_listed_by_label_with_those_of_others,
    no_more_keys_are_listed_than_an_answer_has_room_for,
    random_bytes_come_in_the_length_that_is_asked_for,
    the_parents_own_actions_are_not_the_workers,
];

fn a_key_that_is_not_there_is_not_found(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    worker.create("other", KeyKind::Aes256).unwrap();
    for action in [Action::GetKey(by("k")), Action::DeleteKey(by("k"))] {
        let failure = worker.act(action).unwrap_err().failure;
        assert_eq!(failure.code, Code::NotFound);
        assert_eq!(failure.message, "there is no key with the label `k`");
        assert!(!failure.retryable);
    }
}

fn a_destroyed_key_is_gone_with_both_halves(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for kind in KeyKind::ALL {
        worker.create("k", kind).unwrap();
        worker.create("other", kind).unwrap();
        let Outcome::DeleteKey(deleted) = worker.act(Action::DeleteKey(by("k"))).unwrap() else {
            panic!()
        };
        assert_eq!(deleted.label.as_str(), "k");
        assert_eq!(tokens.objects("k"), [""; 0]);
        assert_eq!(worker.refusal(Action::GetKey(by("k"))), Code::NotFound);
        assert!(worker.act(Action::GetKey(by("other"))).is_ok());
        worker.act(Action::DeleteKey(by("other"))).unwrap();
    }
}

fn keys_are_listed_by_label_with_those_of_others(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    assert_eq!(listed(&mut worker).keys, []);
    for (label, kind) in [
        ("c", KeyKind::EcP256),
        ("a", KeyKind::Aes128),
        ("e", KeyKind::Hmac256),
        ("b", KeyKind::Aes256),
    ] {
        worker.create(label, kind).unwrap();
    }
    tokens.tool(&["--keypairgen", "--key-type", "rsa:2048", "--label", "d", "--id", "dd"]);
    let list = listed(&mut worker);
    assert!(!list.truncated);
    let labels: Vec<_> = list.keys.iter().map(|key| key.label.as_str()).collect();
    assert_eq!(labels, ["a", "b", "c", "d", "e"]);
    for key in &list.keys {
        let Outcome::GetKey(alone) = worker.act(Action::GetKey(by(&key.label))).unwrap() else {
            panic!()
        };
        assert_eq!(alone, *key);
    }
    assert_eq!(list.keys[2].usage, KeyKind::EcP256.default_usage());
    let theirs = &list.keys[3];
    assert_eq!((theirs.kind, theirs.id.as_str()), (None, "dd"));
    assert!(theirs.usage.sign && theirs.usage.verify);
    assert_ne!(theirs.usage, Usage::default());
}

fn no_more_keys_are_listed_than_an_answer_has_room_for(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for number in 0..220 {
        worker.create(&format!("{number:0>127}"), KeyKind::Aes256).unwrap();
    }
    let list = listed(&mut worker);
    assert!(list.truncated);
    assert!(list.keys.len() < 220, "{}", list.keys.len());
    assert!(list.keys.len() > 150, "{}", list.keys.len());
    assert!(serde_json::to_vec(&list).unwrap().len() < 62 * 1024);
    for (number, key) in list.keys.iter().enumerate() {
        assert_eq!(key.label, format!("{number:0>127}"));
    }
}

fn random_bytes_come_in_the_length_that_is_asked_for(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    let mut random = |bytes| worker.act(Action::Random(Random { bytes }));
    for bytes in [1, 2, 32, 1023, 1024] {
        let Outcome::Random(randomized) = random(bytes).unwrap() else { panic!() };
        assert_eq!(randomized.bytes.as_slice().len(), usize::from(bytes));
    }
    let Outcome::Random(first) = random(32).unwrap() else { panic!() };
    let Outcome::Random(second) = random(32).unwrap() else { panic!() };
    assert_ne!(first, second);
    for bytes in [0, 1025, u16::MAX] {
        assert_eq!(random(bytes).unwrap_err().failure.code, Code::InvalidRequest);
    }
}

fn the_parents_own_actions_are_not_the_workers(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    let echo = Action::Echo(Echo { message: "hello".into() });
    assert_eq!(worker.refusal(echo), Code::Internal);
    let describe = Action::Describe(Describe { attestation: false, nonce: None });
    assert_eq!(worker.refusal(describe), Code::Internal);
}
