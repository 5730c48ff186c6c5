//! Destroying keys.

use cryptoki::error::{Error, RvError};
use cryptoki::object::Attribute;
use protocol::action::Deleted;
use protocol::label::KeyLabel;

use super::attributes::{Class, Object};
use super::executor::Executor;
use super::fault::Trouble;
use super::keys::{PENDING, id_of, not_found, take_only};

impl Executor {
    /// Destroys the key with this label, its public half, and what is pending under its CKA_ID.
    pub(super) fn delete(&self, label: &KeyLabel) -> Result<Deleted, Trouble> {
        let mut found = self.labelled(label)?;
        let main = take_only(&mut found, |object| object.class != Class::Public, label)?;
        let doomed = match main {
            Some(main) => {
                let is_half =
                    |object: &Object| main.class == Class::Private && object.id == main.id;
                found.retain(is_half);
                // The half first that makes it a key: what may be left can be told from one.
                found.insert(0, main);
                found
            }
            // A deletion that was not finished.
            None => take_only(&mut found, |_| true, label)?.into_iter().collect(),
        };
        for object in &doomed {
            self.destroy_object(object)?;
        }
        let mut pending = self.objects(Attribute::Id(id_of(label)))?;
        pending.retain(|object| object.label == PENDING.as_bytes());
        for object in &pending {
            self.destroy_object(object)?;
        }
        if doomed.is_empty() { Err(not_found(label)) } else { Ok(Deleted { label: label.clone() }) }
    }

    fn destroy_object(&self, object: &Object) -> Result<(), Trouble> {
        match self.session.destroy_object(object.handle) {
            // Somebody else was faster.
            Ok(()) | Err(Error::Pkcs11(RvError::ObjectHandleInvalid, _)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
