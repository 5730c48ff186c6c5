//! Objects as the token shows them.

use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use protocol::key::{KeyKind, Usage};

/// A key, or half of a pair.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) handle: ObjectHandle,
    pub(super) class: Class,
    pub(super) label: Vec<u8>,
    pub(super) id: Vec<u8>,
    pub(super) traits: Traits,
}

/// Which kind of object a key is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    Private,
    Public,
    Secret,
}

/// What makes one key as good as another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Traits {
    /// Nothing if it is none that we create.
    pub(super) kind: Option<KeyKind>,
    /// Only what this object's class may have.
    pub(super) usage: Usage,
    pub(super) extractable: bool,
    pub(super) sensitive: bool,
}

impl Object {
    /// The object with this handle; nothing if it is no key, or gone.
    pub(super) fn read(session: &Session, handle: ObjectHandle) -> Result<Option<Self>, Error> {
        let wanted = [AttributeType::Class, AttributeType::Label, AttributeType::Id];
        let attributes = match session.get_attributes(handle, &wanted) {
            Ok(attributes) => attributes,
            Err(Error::Pkcs11(RvError::ObjectHandleInvalid, _)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut class, mut label, mut id) = (None, Vec::new(), Vec::new());
        for attribute in attributes {
            match attribute {
                Attribute::Class(ObjectClass::PRIVATE_KEY) => class = Some(Class::Private),
                Attribute::Class(ObjectClass::PUBLIC_KEY) => class = Some(Class::Public),
                Attribute::Class(ObjectClass::SECRET_KEY) => class = Some(Class::Secret),
                Attribute::Label(bytes) => label = bytes,
                Attribute::Id(bytes) => id = bytes,
                _ => {}
            }
        }
        let Some(class) = class else { return Ok(None) };
        let traits = match Traits::read(session, handle, class) {
            Ok(traits) => traits,
            Err(Error::Pkcs11(RvError::ObjectHandleInvalid, _)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Self { handle, class, label, id, traits }))
    }
}

impl Traits {
    /// Asks only for attributes that fit the class, since some modules give none at all when one
    /// does not.
    pub(super) fn read(
        session: &Session,
        handle: ObjectHandle,
        class: Class,
    ) -> Result<Self, Error> {
        let attributes = match session.get_attributes(handle, of_class(class)) {
            Ok(attributes) => attributes,
            Err(error @ Error::Pkcs11(..)) => return Err(error),
            // A type of key that `cryptoki` does not know.
            Err(_) => session.get_attributes(handle, &of_class(class)[1..])?,
        };
        let mut traits = Self {
            kind: None,
            usage: Usage::default(),
            // What the token does not say is not taken for granted.
            extractable: class != Class::Public,
            sensitive: false,
        };
        let (mut key_type, mut bytes) = (None, None);
        for attribute in attributes {
            match attribute {
                Attribute::KeyType(value) => key_type = Some(value),
                Attribute::ValueLen(value) => bytes = Some(*value),
                Attribute::Encrypt(value) => traits.usage.encrypt = value,
                Attribute::Decrypt(value) => traits.usage.decrypt = value,
                Attribute::Sign(value) => traits.usage.sign = value,
                Attribute::Verify(value) => traits.usage.verify = value,
                Attribute::Wrap(value) => traits.usage.wrap = value,
                Attribute::Unwrap(value) => traits.usage.unwrap = value,
                Attribute::Extractable(value) => traits.extractable = value,
                Attribute::Sensitive(value) => traits.sensitive = value,
                _ => {}
            }
        }
        traits.kind = match (key_type, bytes) {
            (Some(KeyType::AES), Some(16)) => Some(KeyKind::Aes128),
            (Some(KeyType::AES), Some(24)) => Some(KeyKind::Aes192),
            (Some(KeyType::AES), Some(32)) => Some(KeyKind::Aes256),
            (Some(KeyType::GENERIC_SECRET), Some(32)) => Some(KeyKind::Hmac256),
            (Some(KeyType::EC), _) if on_p256(session, handle)? => Some(KeyKind::EcP256),
            _ => None,
        };
        Ok(traits)
    }
}

fn on_p256(session: &Session, handle: ObjectHandle) -> Result<bool, Error> {
    let attributes = session.get_attributes(handle, &[AttributeType::EcParams])?;
    Ok(attributes.contains(&Attribute::EcParams(P256.to_vec())))
}

const fn of_class(class: Class) -> &'static [AttributeType] {
    match class {
        Class::Private => &[
            AttributeType::KeyType,
            AttributeType::Decrypt,
            AttributeType::Sign,
            AttributeType::Unwrap,
            AttributeType::Extractable,
            AttributeType::Sensitive,
        ],
        Class::Public => &[
            AttributeType::KeyType,
            AttributeType::Encrypt,
            AttributeType::Verify,
            AttributeType::Wrap,
        ],
        Class::Secret => &[
            AttributeType::KeyType,
            AttributeType::ValueLen,
            AttributeType::Encrypt,
            AttributeType::Decrypt,
            AttributeType::Sign,
            AttributeType::Verify,
            AttributeType::Wrap,
            AttributeType::Unwrap,
            AttributeType::Extractable,
            AttributeType::Sensitive,
        ],
    }
}

/// The DER encoding of the object identifier prime256v1 (SEC 2, RFC 5480 section 2.1.1.1).
pub(super) const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
