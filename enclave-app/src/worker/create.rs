//! Making keys, each label once.
//!
//! PKCS#11 lets any number of keys have one label, so that a label is borne once is ours to see
//! to. The parent never has two calls for one label at work, but a call whose worker was killed
//! may still take effect at the HSM, later. Therefore a key is made in two steps:
//!
//! 1. It is generated under the label [`PENDING`], with a CKA_ID that follows from its own label.
//! 2. It gets its label.
//!
//! A first step that comes late leaves a nameless key, which the next creation under that label
//! takes instead of making another; a second step that comes late repeats what was done. To take
//! over means to destroy whatever else is pending under that CKA_ID, so that nothing else can get
//! the label any more.
//!
//! A new AES key takes 10 calls of the module: C_FindObjectsInit, C_FindObjects and
//! C_FindObjectsFinal by its label, again by its CKA_ID, C_GenerateKey, C_GetAttributeValue,
//! C_SetAttributeValue. One that exists takes 6.

use std::sync::atomic::Ordering;

use cryptoki::error::{Error, RvError};
use cryptoki::object::Attribute;
use protocol::action::{Created, KeySpec};
use protocol::answer::Code;
use protocol::label::KeyLabel;

use super::attributes::{Class, Object, Traits};
use super::executor::Executor;
use super::fault::Trouble;
use super::keys::{Held, PENDING, id_of, take_only};
use super::wanted::Wanted;

impl Executor {
    pub(super) fn create(&self, spec: &KeySpec) -> Result<Created, Trouble> {
        let wanted = Wanted::try_from(spec)?;
        if let Some(held) = self.find_key(wanted.label)? {
            return wanted.found(&held);
        }
        match self.make(&wanted) {
            // Tokens are known to fail after they have made the key.
            Err(trouble) if trouble.is_survivable() => match self.look_again(&wanted) {
                Ok(Some(held)) => Ok(Created { created: true, key: held.describe() }),
                Err(worse) if !worse.is_survivable() => Err(worse),
                Ok(None) | Err(_) => Err(trouble),
            },
            made => made,
        }
    }

    fn make(&self, wanted: &Wanted<'_>) -> Result<Created, Trouble> {
        let held = match self.claim(wanted)? {
            Claim::Committed(held) => return wanted.found(&held),
            Claim::Free if self.module.labels_fixed.load(Ordering::Relaxed) => {
                self.generate(wanted, wanted.label.as_str())?
            }
            Claim::Free => self.commit(wanted, self.generate(wanted, PENDING)?)?,
            Claim::Pending(held) => self.commit(wanted, *held)?,
        };
        Ok(Created { created: true, key: held.describe() })
    }

    fn look_again(&self, wanted: &Wanted<'_>) -> Result<Option<Held>, Trouble> {
        let held = match self.find_key(wanted.label)? {
            Some(held) => held,
            None => match self.claim(wanted)? {
                Claim::Committed(held) => *held,
                Claim::Free => return Ok(None),
                Claim::Pending(held) => self.commit(wanted, *held)?,
            },
        };
        Ok((held.traits() == wanted.traits).then_some(held))
    }

    /// What earlier creations under this label have left. What cannot be used is destroyed.
    fn claim(&self, wanted: &Wanted<'_>) -> Result<Claim, Trouble> {
        let mut left = self.objects(Attribute::Id(id_of(wanted.label)))?;
        // Whoever has given a key of ours another label wants it kept.
        left.retain(|object| is_pending(object) || has_label(object, wanted));
        let is_committed = |object: &Object| !is_pending(object) && object.class != Class::Public;
        if let Some(main) = take_only(&mut left, is_committed, wanted.label)? {
            // An earlier call was done between our two looks.
            let public = left.into_iter().find(|object| object.class == Class::Public);
            return Ok(Claim::Committed(Box::new(Held { main, public })));
        }
        let (held, rest) = wanted.choose(left);
        for object in rest {
            self.session.destroy_object(object.handle)?;
        }
        Ok(held.map_or(Claim::Free, |held| Claim::Pending(Box::new(held))))
    }

    /// Gives a pending key its label.
    fn commit(&self, wanted: &Wanted<'_>, mut held: Held) -> Result<Held, Trouble> {
        match self.set_label(wanted.label, &mut held) {
            Ok(()) => Ok(held),
            Err(error) if says_fixed(&error) => {
                self.module.labels_fixed.store(true, Ordering::Relaxed);
                self.destroy(&held)?;
                self.generate(wanted, wanted.label.as_str())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The half comes last that makes it a key.
    fn set_label(&self, label: &KeyLabel, held: &mut Held) -> Result<(), Error> {
        for object in held.public.iter_mut().chain([&mut held.main]).filter(|o| is_pending(o)) {
            let attribute = Attribute::Label(label.as_str().into());
            self.session.update_attributes(object.handle, &[attribute])?;
            object.label = label.as_str().into();
        }
        Ok(())
    }

    fn generate(&self, wanted: &Wanted<'_>, label: &str) -> Result<Held, Trouble> {
        let held = if wanted.is_pair() {
            self.generate_pair(wanted, label)?
        } else {
            self.generate_secret(wanted, label)?
        };
        if held.traits() == wanted.traits {
            return Ok(held);
        }
        // Nobody may believe that it is what was wanted.
        self.destroy(&held)?;
        let message = "the HSM has made a key with other attributes, which is destroyed again";
        Err(Trouble::refused(Code::Unsupported, message))
    }

    fn generate_secret(&self, wanted: &Wanted<'_>, label: &str) -> Result<Held, Trouble> {
        let id = id_of(wanted.label);
        let handle = wanted.with_fewer_attributes(|uses| {
            let template = wanted.secret_template(label, &id, uses);
            self.session.generate_key(&wanted.mechanism(), &template)
        })?;
        let traits = Traits::read(&self.session, handle, Class::Secret)?;
        let main = Object { handle, class: Class::Secret, label: label.into(), id, traits };
        Ok(Held { main, public: None })
    }

    fn generate_pair(&self, wanted: &Wanted<'_>, label: &str) -> Result<Held, Trouble> {
        let id = id_of(wanted.label);
        let (public, private) = wanted.with_fewer_attributes(|uses| {
            let public = wanted.public_template(label, &id, uses);
            let private = wanted.private_template(label, &id, uses);
            self.session.generate_key_pair(&wanted.mechanism(), &public, &private)
        })?;
        let half = |handle, class| {
            let traits = Traits::read(&self.session, handle, class)?;
            Ok::<_, Error>(Object { handle, class, label: label.into(), id: id.clone(), traits })
        };
        Ok(Held {
            main: half(private, Class::Private)?,
            public: Some(half(public, Class::Public)?),
        })
    }

    /// Destroys both halves, the one first that makes it a key.
    pub(super) fn destroy(&self, held: &Held) -> Result<(), Trouble> {
        for object in [&held.main].into_iter().chain(&held.public) {
            self.session.destroy_object(object.handle)?;
        }
        Ok(())
    }
}

/// What there is under the CKA_ID of a label.
enum Claim {
    /// A key that bears the label.
    Committed(Box<Held>),
    /// Nothing.
    Free,
    /// A key as it is wanted, which only lacks its label.
    Pending(Box<Held>),
}

fn is_pending(object: &Object) -> bool {
    object.label == PENDING.as_bytes()
}

fn has_label(object: &Object, wanted: &Wanted<'_>) -> bool {
    object.label == wanted.label.as_str().as_bytes()
}

/// Whether a token says so that it changes no labels.
const fn says_fixed(error: &Error) -> bool {
    matches!(
        error,
        Error::NullFunctionPointer
            | Error::Pkcs11(
                RvError::ActionProhibited
                    | RvError::AttributeReadOnly
                    | RvError::AttributeTypeInvalid
                    | RvError::FunctionNotSupported
                    | RvError::TemplateInconsistent,
                _
            )
    )
}
