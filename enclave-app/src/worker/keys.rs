//! Keys by their labels.

use cryptoki::object::{Attribute, ObjectHandle};
use protocol::answer::Code;
use protocol::key::{Key, Usage};
use protocol::label::KeyLabel;
use sha2::{Digest, Sha256};

use super::attributes::{Class, Object, Traits};
use super::executor::Executor;
use super::fault::Trouble;

/// A secret key, or a key pair.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The secret key, or the private half.
    pub(super) main: Object,
    /// The public half, if there is one.
    pub(super) public: Option<Object>,
}

impl Held {
    /// What both halves make together.
    pub(super) fn traits(&self) -> Traits {
        let main = self.main.traits;
        let Some(public) = &self.public else { return main };
        let public = public.traits;
        Traits {
            // Some tokens tell the curve with one half only.
            kind: main.kind.or(public.kind),
            usage: Usage {
                encrypt: main.usage.encrypt || public.usage.encrypt,
                verify: main.usage.verify || public.usage.verify,
                wrap: main.usage.wrap || public.usage.wrap,
                ..main.usage
            },
            ..main
        }
    }

    pub(super) fn describe(&self) -> Key {
        let Traits { kind, usage, extractable, sensitive } = self.traits();
        Key {
            label: String::from_utf8_lossy(&self.main.label).into_owned(),
            kind,
            id: self.main.id.iter().map(|byte| format!("{byte:02x}")).collect(),
            usage,
            extractable,
            sensitive,
        }
    }
}

impl Executor {
    /// The one key with this label.
    pub(super) fn key(&self, label: &KeyLabel) -> Result<Held, Trouble> {
        self.find_key(label)?.ok_or_else(|| not_found(label))
    }

    /// The key with this label, if there is one.
    pub(super) fn find_key(&self, label: &KeyLabel) -> Result<Option<Held>, Trouble> {
        let mut objects = self.labelled(label)?;
        let Some(main) = take_only(&mut objects, |object| object.class != Class::Public, label)?
        else {
            return Ok(None);
        };
        let public = match main.class {
            Class::Private => self.public_half(&main, objects)?,
            Class::Public | Class::Secret => None,
        };
        Ok(Some(Held { main, public }))
    }

    /// The keys and halves with this label.
    pub(super) fn labelled(&self, label: &KeyLabel) -> Result<Vec<Object>, Trouble> {
        if label.as_str() == PENDING {
            let message = format!("the label `{PENDING}` is taken");
            return Err(Trouble::refused(Code::InvalidRequest, message));
        }
        self.objects(Attribute::Label(label.as_str().into()))
    }

    /// The keys and halves with this attribute.
    pub(super) fn objects(&self, attribute: Attribute) -> Result<Vec<Object>, Trouble> {
        let mut objects = Vec::new();
        for handle in self.handles(&[Attribute::Token(true), attribute])? {
            objects.extend(Object::read(&self.session, handle)?);
        }
        Ok(objects)
    }

    pub(super) fn handles(&self, template: &[Attribute]) -> Result<Vec<ObjectHandle>, Trouble> {
        Ok(self.session.find_objects(template)?)
    }

    /// The halves of a pair share their CKA_ID, and only mostly their label.
    fn public_half(
        &self,
        private: &Object,
        candidates: Vec<Object>,
    ) -> Result<Option<Object>, Trouble> {
        let is_half = |object: &Object| object.class == Class::Public && object.id == private.id;
        if let Some(public) = candidates.into_iter().find(is_half) {
            return Ok(Some(public));
        }
        if private.id.is_empty() {
            return Ok(None);
        }
        Ok(self.objects(Attribute::Id(private.id.clone()))?.into_iter().find(is_half))
    }
}

/// Takes the object that is meant out of `objects`.
pub(super) fn take_only(
    objects: &mut Vec<Object>,
    is_meant: impl Fn(&Object) -> bool,
    label: &KeyLabel,
) -> Result<Option<Object>, Trouble> {
    let Some(index) = objects.iter().position(&is_meant) else { return Ok(None) };
    let object = objects.swap_remove(index);
    if objects.iter().any(is_meant) {
        let message = format!("more than one key has the label `{label}`");
        return Err(Trouble::refused(Code::Ambiguous, message));
    }
    Ok(Some(object))
}

pub(super) fn not_found(label: &KeyLabel) -> Trouble {
    Trouble::refused(Code::NotFound, format!("there is no key with the label `{label}`"))
}

/// The CKA_ID of the keys that we make for a label.
pub(super) fn id_of(label: &KeyLabel) -> Vec<u8> {
    let hash = Sha256::new().chain_update(ID_PREFIX).chain_update(label.as_str()).finalize();
    hash[..ID_BYTES].to_vec()
}

/// The label of a key that is not yet acknowledged. No key may be asked for by it.
pub(super) const PENDING: &str = "(pending)";

const ID_PREFIX: &[u8] = b"nitro-enclave key\0";
const ID_BYTES: usize = 16;
