//! Making keys.

use protocol::key::KeyKind;

use crate::lab::{Tokens, Worker};

crate::tests![each_kind_of_key_is_made_once,];

fn each_kind_of_key_is_made_once() {
    let tokens = Tokens::new();
    let mut worker = Worker::ready(&tokens);
    for kind in KeyKind::ALL {
        let first = worker.create(kind.name(), kind).unwrap();
        assert!(first.created);
        assert_eq!(first.key.kind, Some(kind));
        assert_eq!(first.key.usage, kind.default_usage());
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
