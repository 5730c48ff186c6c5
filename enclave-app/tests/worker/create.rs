//! Making keys.

use protocol::action::{Action, Outcome};
use protocol::answer::Code;
use protocol::key::{KeyKind, Usage};

use crate::lab::{Leg, Tokens, Worker, by};

crate::tests![
    a_key_is_sensitive_and_never_extractable_as_others_see_it,
    a_key_that_only_signs_may_not_be_for_anything_else,
    a_key_with_another_kind_or_usage_is_not_the_one_that_is_wanted,
    a_key_of_others_with_the_same_label_is_not_the_one_that_is_wanted,
    a_label_can_be_any_text_but_the_one_that_pending_keys_have,
    each_kind_of_key_is_made_once,
    the_usage_is_as_it_is_asked_for,
    two_keys_of_others_with_one_label_are_ambiguous_and_stay,
];

fn each_kind_of_key_is_made_once(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for kind in KeyKind::ALL {
        let first = worker.create(kind.name(), kind).unwrap();
        assert!(first.created);
        assert_eq!(first.key.label, kind.name());
        assert_eq!(first.key.kind, Some(kind));
        assert_eq!(first.key.usage, kind.default_usage());
        assert_eq!(first.key.id.len(), 32);
        assert!(first.key.sensitive && !first.key.extractable);
        let second = worker.create(kind.name(), kind).unwrap();
        assert!(!second.created);
        assert_eq!(second.key, first.key);
        let halves = if kind == KeyKind::EcP256 { 2 } else { 1 };
        assert_eq!(tokens.objects(kind.name()).len(), halves);
    }
    assert_eq!(tokens.objects("(pending)"), [""; 0]);
    assert!(worker.stop());
}

fn a_key_is_sensitive_and_never_extractable_as_others_see_it(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for kind in KeyKind::ALL {
        worker.create(kind.name(), kind).unwrap();
        let objects = tokens.objects(kind.name());
        let hidden = objects.iter().filter(|object| !object.starts_with("Public Key"));
        assert_eq!(hidden.clone().count(), 1, "{objects:?}");
        for object in hidden {
            let access = "sensitive, always sensitive, never extractable, local";
            assert!(object.contains(&format!("Access:     {access}")), "{object}");
        }
    }
}

fn the_usage_is_as_it_is_asked_for(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    let all =
        Usage { encrypt: true, decrypt: true, sign: true, verify: true, wrap: true, unwrap: true };
    let none = Usage::default();
    let encrypts = Usage { encrypt: true, ..none };
    let unwraps = Usage { unwrap: true, decrypt: true, ..none };
    for (label, usage, seen) in [
        // It never says `sign` of a secret key.
        ("all", all, "encrypt, decrypt, verify, wrap, unwrap"),
        ("encrypts", encrypts, "encrypt"),
        ("none", none, "none"),
        ("unwraps", unwraps, "decrypt, unwrap"),
    ] {
        let created = worker.create_with(label, KeyKind::Aes256, Some(usage)).unwrap();
        assert_eq!(created.key.usage, usage);
        let [object] = &tokens.objects(label)[..] else { panic!("`{label}` is not one key") };
        assert!(object.lines().any(|line| line == format!("Usage:      {seen}")), "{object}");
    }
    let signs = Usage { sign: true, ..none };
    let created = worker.create_with("pair", KeyKind::EcP256, Some(signs)).unwrap();
    assert_eq!(created.key.usage, signs);
}

fn a_key_that_only_signs_may_not_be_for_anything_else(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for kind in [KeyKind::EcP256, KeyKind::Hmac256] {
        for more in [
            Usage { encrypt: true, ..kind.default_usage() },
            Usage { decrypt: true, ..kind.default_usage() },
            Usage { wrap: true, ..kind.default_usage() },
            Usage { unwrap: true, ..kind.default_usage() },
        ] {
            let fault = worker.create_with("k", kind, Some(more)).unwrap_err();
            assert_eq!(fault.failure.code, Code::InvalidRequest);
        }
    }
    assert_eq!(tokens.objects("k"), [""; 0]);
}

fn a_key_with_another_kind_or_usage_is_not_the_one_that_is_wanted(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    let first = worker.create("k", KeyKind::Aes256).unwrap();
    for other in [KeyKind::Aes128, KeyKind::Aes192, KeyKind::EcP256, KeyKind::Hmac256] {
        let failure = worker.create("k", other).unwrap_err().failure;
        assert_eq!(failure.code, Code::KeyDiffers);
        assert!(failure.message.contains("kind: aes-256"), "{failure}");
    }
    let wraps = Usage { wrap: true, ..KeyKind::Aes256.default_usage() };
    let failure = worker.create_with("k", KeyKind::Aes256, Some(wraps)).unwrap_err().failure;
    assert_eq!(failure.code, Code::KeyDiffers);
    assert_eq!(failure.message, "there is a key with the label `k`, and it has wrap: false");
    let Outcome::GetKey(key) = worker.act(Action::GetKey(by("k"))).unwrap() else { panic!() };
    assert_eq!(key, first.key);
    assert_eq!(tokens.objects("k").len(), 1);
}

fn a_key_of_others_with_the_same_label_is_not_the_one_that_is_wanted(leg: Leg) {
    let tokens = Tokens::new(leg);
    tokens.tool(&["--keygen", "--key-type", "AES:32", "--label", "theirs", "--extractable"]);
    let mut worker = Worker::ready(&tokens);
    let failure = worker.create("theirs", KeyKind::Aes256).unwrap_err().failure;
    assert_eq!(failure.code, Code::KeyDiffers);
    assert!(failure.message.contains("extractable: true"), "{failure}");
    assert_eq!(tokens.objects("theirs").len(), 1);
}

fn two_keys_of_others_with_one_label_are_ambiguous_and_stay(leg: Leg) {
    let tokens = Tokens::new(leg);
    for id in ["01", "02"] {
        tokens.tool(&["--keygen", "--key-type", "AES:32", "--label", "two", "--id", id]);
    }
    let mut worker = Worker::ready(&tokens);
    let fault = worker.create("two", KeyKind::Aes256).unwrap_err();
    assert_eq!(fault.failure.code, Code::Ambiguous);
    assert_eq!(worker.refusal(Action::GetKey(by("two"))), Code::Ambiguous);
    assert_eq!(worker.refusal(Action::DeleteKey(by("two"))), Code::Ambiguous);
    assert_eq!(tokens.objects("two").len(), 2);
}

fn a_label_can_be_any_text_but_the_one_that_pending_keys_have(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    let long = "l".repeat(127);
    for label in ["a b", "«Schlüssel»", "pending", &long] {
        assert_eq!(worker.create(label, KeyKind::Aes256).unwrap().key.label, label);
        assert!(!worker.create(label, KeyKind::Aes256).unwrap().created);
    }
    let fault = worker.create("(pending)", KeyKind::Aes256).unwrap_err();
    assert_eq!(fault.failure.code, Code::InvalidRequest);
    assert_eq!(worker.refusal(Action::DeleteKey(by("(pending)"))), Code::InvalidRequest);
}
