//! What calls leave that were cut short, or take effect after others have given up on them.

use protocol::action::{Action, Sign, Verify};
use protocol::answer::Code;
use protocol::key::{KeyKind, Usage};

use crate::lab::{Leg, Tokens, Worker, by, signed, valid};

crate::tests![
    a_deletion_that_stopped_half_way_is_finished_by_the_next,
    a_key_that_somebody_has_renamed_is_left_alone,
    a_pair_of_which_one_half_has_its_label_gets_the_other,
    a_pair_that_waits_for_its_label_gets_it,
    a_pending_key_goes_with_the_key_that_took_its_label,
    a_pending_key_is_none_yet,
    a_pending_key_with_other_attributes_is_destroyed,
    a_secret_key_that_waits_for_its_label_gets_it,
    halves_that_cannot_be_told_apart_are_destroyed,
    of_several_pending_keys_one_remains,
    the_public_half_of_a_pair_that_is_gone_does_no_harm,
];

fn a_secret_key_that_waits_for_its_label_gets_it(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::Hmac256).unwrap();
    let signature = signed(&mut worker, "k", b"before");
    tokens.rename("secret", "k", "(pending)");
    assert_eq!(worker.refusal(Action::GetKey(by("k"))), Code::NotFound);
    assert!(worker.create("k", KeyKind::Hmac256).unwrap().created);
    assert!(valid(&mut worker, "k", b"before", &signature));
    assert_eq!(tokens.objects("(pending)"), [""; 0]);
    assert_eq!(tokens.objects("k").len(), 1);
}

fn a_pair_that_waits_for_its_label_gets_it(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::EcP256).unwrap();
    let signature = signed(&mut worker, "k", b"before");
    tokens.rename("private", "k", "(pending)");
    tokens.rename("public", "k", "(pending)");
    assert!(worker.create("k", KeyKind::EcP256).unwrap().created);
    assert!(valid(&mut worker, "k", b"before", &signature));
    assert_eq!(tokens.objects("(pending)"), [""; 0]);
    assert_eq!(tokens.objects("k").len(), 2);
}

fn a_pair_of_which_one_half_has_its_label_gets_the_other(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::EcP256).unwrap();
    let signature = signed(&mut worker, "k", b"before");
    tokens.rename("private", "k", "(pending)");
    assert_eq!(worker.refusal(Action::GetKey(by("k"))), Code::NotFound);
    assert!(worker.create("k", KeyKind::EcP256).unwrap().created);
    assert!(valid(&mut worker, "k", b"before", &signature));
    assert_eq!(tokens.objects("(pending)"), [""; 0]);
    assert_eq!(tokens.objects("k").len(), 2);
}

fn a_pending_key_with_other_attributes_is_destroyed(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for (class, before) in [("secret", KeyKind::Aes128), ("private", KeyKind::EcP256)] {
        worker.create("k", before).unwrap();
        tokens.rename(class, "k", "(pending)");
        let created = worker.create("k", KeyKind::Aes256).unwrap();
        assert!(created.created);
        assert_eq!(created.key.kind, Some(KeyKind::Aes256));
        assert_eq!(tokens.objects("(pending)"), [""; 0]);
        assert_eq!(tokens.objects("k").len(), 1);
        worker.act(Action::DeleteKey(by("k"))).unwrap();
    }
    let wraps = Usage { wrap: true, ..KeyKind::Aes256.default_usage() };
    worker.create_with("k", KeyKind::Aes256, Some(wraps)).unwrap();
    tokens.rename("secret", "k", "(pending)");
    assert!(!worker.create("k", KeyKind::Aes256).unwrap().key.usage.wrap);
    assert_eq!(tokens.objects("(pending)"), [""; 0]);
}

fn of_several_pending_keys_one_remains(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for aside in ["a", "b", "c"] {
        assert!(worker.create("k", KeyKind::Aes256).unwrap().created);
        tokens.rename("secret", "k", aside);
    }
    for aside in ["a", "b", "c"] {
        tokens.rename("secret", aside, "(pending)");
    }
    assert_eq!(tokens.objects("(pending)").len(), 3);
    assert!(worker.create("k", KeyKind::Aes256).unwrap().created);
    assert_eq!(tokens.objects("(pending)"), [""; 0]);
    assert_eq!(tokens.objects("k").len(), 1);
}

fn halves_that_cannot_be_told_apart_are_destroyed(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for aside in ["a", "b"] {
        assert!(worker.create("k", KeyKind::EcP256).unwrap().created);
        for half in ["private", "public"] {
            tokens.rename(half, "k", aside);
        }
    }
    for aside in ["a", "b"] {
        for half in ["private", "public"] {
            tokens.rename(half, aside, "(pending)");
        }
    }
    assert!(worker.create("k", KeyKind::EcP256).unwrap().created);
    assert_eq!(tokens.objects("(pending)"), [""; 0]);
    assert_eq!(tokens.objects("k").len(), 2);
    let signature = signed(&mut worker, "k", b"after");
    assert!(valid(&mut worker, "k", b"after", &signature));
}

fn the_public_half_of_a_pair_that_is_gone_does_no_harm(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    for next in KeyKind::ALL {
        worker.create("k", KeyKind::EcP256).unwrap();
        tokens.destroy("private", "k");
        assert_eq!(worker.refusal(Action::GetKey(by("k"))), Code::NotFound);
        let created = worker.create("k", next).unwrap();
        assert!(created.created);
        assert_eq!(created.key.kind, Some(next));
        let halves = if next == KeyKind::EcP256 { 2 } else { 1 };
        assert_eq!(tokens.objects("k").len(), halves);
        worker.act(Action::DeleteKey(by("k"))).unwrap();
    }
}

fn a_deletion_that_stopped_half_way_is_finished_by_the_next(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::EcP256).unwrap();
    tokens.destroy("private", "k");
    worker.act(Action::DeleteKey(by("k"))).unwrap();
    assert_eq!(tokens.objects("k"), [""; 0]);
    assert_eq!(worker.refusal(Action::DeleteKey(by("k"))), Code::NotFound);
}

fn a_pending_key_goes_with_the_key_that_took_its_label(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::Aes256).unwrap();
    tokens.rename("secret", "k", "aside");
    worker.create("k", KeyKind::Aes256).unwrap();
    tokens.rename("secret", "aside", "(pending)");
    worker.act(Action::DeleteKey(by("k"))).unwrap();
    assert_eq!(tokens.objects("k"), [""; 0]);
    assert_eq!(tokens.objects("(pending)"), [""; 0]);
}

fn a_pending_key_is_none_yet(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::Hmac256).unwrap();
    let signature = signed(&mut worker, "k", b"message");
    tokens.rename("secret", "k", "(pending)");
    assert_eq!(worker.refusal(Action::GetKey(by("k"))), Code::NotFound);
    let label: protocol::label::KeyLabel = "k".parse().unwrap();
    let message = protocol::bytes::Bytes::from(b"message".to_vec());
    let sign = Sign { label: label.clone(), message: message.clone() };
    assert_eq!(worker.refusal(Action::Sign(sign)), Code::NotFound);
    let verify = Verify { label, message, signature };
    assert_eq!(worker.refusal(Action::Verify(verify)), Code::NotFound);
    assert!(crate::lab::listed(&mut worker).keys.is_empty());
    assert_eq!(worker.refusal(Action::DeleteKey(by("k"))), Code::NotFound);
    // There is nothing left to delete, since nobody knows of this key.
    assert_eq!(tokens.objects("(pending)"), [""; 0]);
}

fn a_key_that_somebody_has_renamed_is_left_alone(leg: Leg) {
    let tokens = Tokens::new(leg);
    let mut worker = Worker::ready(&tokens);
    worker.create("k", KeyKind::Aes256).unwrap();
    tokens.rename("secret", "k", "theirs");
    assert!(worker.create("k", KeyKind::Aes256).unwrap().created);
    worker.act(Action::DeleteKey(by("k"))).unwrap();
    assert_eq!(tokens.objects("theirs").len(), 1);
}
