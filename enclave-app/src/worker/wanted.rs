//! A key as it is asked for.

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use protocol::action::{Created, KeySpec};
use protocol::answer::Code;
use protocol::key::{KeyKind, Usage};
use protocol::label::KeyLabel;

use super::attributes::{Class, Object, P256, Traits};
use super::fault::Trouble;
use super::keys::Held;

/// What a key is to be.
pub(super) struct Wanted<'a> {
    pub(super) label: &'a KeyLabel,
    pub(super) traits: Traits,
    kind: KeyKind,
}

impl<'a> TryFrom<&'a KeySpec> for Wanted<'a> {
    type Error = Trouble;

    fn try_from(spec: &'a KeySpec) -> Result<Self, Trouble> {
        let usage = spec.usage.unwrap_or_else(|| spec.kind.default_usage());
        let traits = Traits { kind: Some(spec.kind), usage, extractable: false, sensitive: true };
        let wanted = Self { label: &spec.label, traits, kind: spec.kind };
        if wanted.only_signs() && (usage.encrypt || usage.decrypt || usage.wrap || usage.unwrap) {
            let message = format!("a key of kind {} can only sign and verify", spec.kind.name());
            return Err(Trouble::refused(Code::InvalidRequest, message));
        }
        Ok(wanted)
    }
}

impl Wanted<'_> {
    pub(super) fn is_pair(&self) -> bool {
        self.kind == KeyKind::EcP256
    }

    /// The answer where there is a key with this label already.
    pub(super) fn found(&self, held: &Held) -> Result<Created, Trouble> {
        let differences = self.differences(held.traits());
        if differences.is_empty() {
            return Ok(Created { created: false, key: held.describe() });
        }
        let message = format!(
            "there is a key with the label `{}`, and it has {}",
            self.label,
            differences.join(", ")
        );
        Err(Trouble::refused(Code::KeyDiffers, message))
    }

    /// The pending key that is as wanted, out of what is left of earlier creations; and the rest.
    pub(super) fn choose(&self, mut left: Vec<Object>) -> (Option<Held>, Vec<Object>) {
        let held = if self.is_pair() {
            self.choose_pair(&left)
        } else {
            let is_wanted =
                |object: &&Object| object.class == Class::Secret && object.traits == self.traits;
            left.iter().find(is_wanted).map(|main| Held { main: main.clone(), public: None })
        };
        if let Some(Held { main, public }) = &held {
            let public = public.as_ref().map(|public| public.handle);
            left.retain(|object| object.handle != main.handle && Some(object.handle) != public);
        }
        (held, left)
    }

    /// Halves of several pairs cannot be told apart, so that only a single pair will do.
    fn choose_pair(&self, left: &[Object]) -> Option<Held> {
        let only = |class| {
            let mut halves = left.iter().filter(|object| object.class == class);
            halves.next().filter(|_| halves.next().is_none()).cloned()
        };
        let held = Held { main: only(Class::Private)?, public: Some(only(Class::Public)?) };
        (held.traits() == self.traits).then_some(held)
    }

    fn differences(&self, found: Traits) -> Vec<String> {
        let mut differences = Vec::new();
        if found.kind != self.traits.kind {
            let kind = found.kind.map_or("another kind", KeyKind::name);
            differences.push(format!("kind: {kind}"));
        }
        for ((name, wanted), (_, found)) in flags(self.traits).into_iter().zip(flags(found)) {
            if wanted != found {
                differences.push(format!("{name}: {found}"));
            }
        }
        differences
    }

    pub(super) const fn mechanism(&self) -> Mechanism<'static> {
        match self.kind {
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => Mechanism::AesKeyGen,
            KeyKind::EcP256 => Mechanism::EccKeyPairGen,
            KeyKind::Hmac256 => Mechanism::GenericSecretKeyGen,
        }
    }

    /// Generates with every use named, so that a token's defaults do not matter; or else, where
    /// the token has no such attributes for this kind of key, without those that it never has.
    pub(super) fn with_fewer_attributes<T>(
        &self,
        generate: impl Fn(Uses) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match generate(Uses::All) {
            Err(error) if self.only_signs() && says_unfit(&error) => generate(Uses::Signatures),
            generated => generated,
        }
    }

    pub(super) fn secret_template(&self, label: &str, id: &[u8], uses: Uses) -> Vec<Attribute> {
        let bytes: u64 = match self.kind {
            KeyKind::Aes128 => 16,
            KeyKind::Aes192 => 24,
            KeyKind::Aes256 | KeyKind::EcP256 | KeyKind::Hmac256 => 32,
        };
        let Usage { encrypt, decrypt, sign, verify, wrap, unwrap } = self.traits.usage;
        let mut template = object(ObjectClass::SECRET_KEY, label, id);
        template.extend(hidden());
        template.extend([
            Attribute::ValueLen(bytes.into()),
            Attribute::Sign(sign),
            Attribute::Verify(verify),
        ]);
        if uses == Uses::All {
            template.extend([
                Attribute::Encrypt(encrypt),
                Attribute::Decrypt(decrypt),
                Attribute::Wrap(wrap),
                Attribute::Unwrap(unwrap),
            ]);
        }
        template
    }

    pub(super) fn private_template(&self, label: &str, id: &[u8], uses: Uses) -> Vec<Attribute> {
        let Usage { decrypt, sign, unwrap, .. } = self.traits.usage;
        let mut template = object(ObjectClass::PRIVATE_KEY, label, id);
        template.extend(hidden());
        template.extend([Attribute::KeyType(KeyType::EC), Attribute::Sign(sign)]);
        if uses == Uses::All {
            template.extend([Attribute::Decrypt(decrypt), Attribute::Unwrap(unwrap)]);
        }
        template
    }

    pub(super) fn public_template(&self, label: &str, id: &[u8], uses: Uses) -> Vec<Attribute> {
        let Usage { encrypt, verify, wrap, .. } = self.traits.usage;
        let mut template = object(ObjectClass::PUBLIC_KEY, label, id);
        template.extend([
            Attribute::KeyType(KeyType::EC),
            Attribute::EcParams(P256.into()),
            Attribute::Verify(verify),
        ]);
        if uses == Uses::All {
            template.extend([Attribute::Encrypt(encrypt), Attribute::Wrap(wrap)]);
        }
        template
    }

    const fn only_signs(&self) -> bool {
        matches!(self.kind, KeyKind::EcP256 | KeyKind::Hmac256)
    }
}

/// Which uses a template names.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Uses {
    All,
    /// CKA_SIGN and CKA_VERIFY.
    Signatures,
}

/// Whether a token says so that an attribute does not fit the kind of key.
const fn says_unfit(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::AttributeTypeInvalid
                | RvError::AttributeValueInvalid
                | RvError::TemplateInconsistent,
            _
        )
    )
}

fn object(class: ObjectClass, label: &str, id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Class(class),
        Attribute::Token(true),
        Attribute::Label(label.into()),
        Attribute::Id(id.into()),
    ]
}

const fn hidden() -> [Attribute; 3] {
    [Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)]
}

const fn flags(traits: Traits) -> [(&'static str, bool); 8] {
    let Traits { kind: _, usage, extractable, sensitive } = traits;
    let Usage { encrypt, decrypt, sign, verify, wrap, unwrap } = usage;
    [
        ("encrypt", encrypt),
        ("decrypt", decrypt),
        ("sign", sign),
        ("verify", verify),
        ("wrap", wrap),
        ("unwrap", unwrap),
        ("extractable", extractable),
        ("sensitive", sensitive),
    ]
}
