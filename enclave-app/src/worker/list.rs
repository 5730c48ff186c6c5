//! Showing all keys.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use protocol::action::Listed;
use protocol::key::Key;

use super::attributes::{Class, Object};
use super::executor::Executor;
use super::fault::Trouble;
use super::keys::{Held, PENDING};

impl Executor {
    pub(super) fn list(&self) -> Result<Listed, Trouble> {
        let deadline = Instant::now() + MAX_TIME;
        let handles = |class| self.handles(&[Attribute::Token(true), Attribute::Class(class)]);
        let (public, private, secret) = (
            handles(ObjectClass::PUBLIC_KEY)?,
            handles(ObjectClass::PRIVATE_KEY)?,
            handles(ObjectClass::SECRET_KEY)?,
        );
        let mut truncated = false;
        let mut read = |handles: Vec<ObjectHandle>| -> Result<Vec<Object>, Trouble> {
            let mut objects = Vec::with_capacity(handles.len());
            for handle in handles {
                if Instant::now() > deadline {
                    truncated = true;
                    break;
                }
                let object = Object::read(&self.session, handle)?;
                objects.extend(object.filter(|object| object.label != PENDING.as_bytes()));
            }
            Ok(objects)
        };
        let public: HashMap<_, _> =
            read(public)?.into_iter().map(|half| (half.id.clone(), half)).collect();
        let mains = read(private)?.into_iter().chain(read(secret)?);
        let mut keys: Vec<_> = mains.map(|main| whole(main, &public).describe()).collect();
        keys.sort_by(|a, b| (&a.label, &a.id).cmp(&(&b.label, &b.id)));
        truncated |= fit(&mut keys);
        Ok(Listed { keys, truncated })
    }
}

fn whole(main: Object, public: &HashMap<Vec<u8>, Object>) -> Held {
    let public = match main.class {
        Class::Private => public.get(&main.id).cloned(),
        Class::Public | Class::Secret => None,
    };
    Held { main, public }
}

/// Keeps what an answer has room for. Says whether that is less than all.
fn fit(keys: &mut Vec<Key>) -> bool {
    let mut bytes = 0;
    let room = keys.iter().take_while(|key| {
        bytes += serde_json::to_vec(key).map_or(MAX_BYTES, |text| text.len() + 1);
        bytes <= MAX_BYTES
    });
    let count = room.count();
    let truncated = count < keys.len();
    keys.truncate(count);
    truncated
}

/// An answer has at most 64 KiB, and more in it than the keys.
const MAX_BYTES: usize = 60 * 1024;

/// Each key takes a few calls of the module, and the parent believes that a worker hangs which
/// does not answer in time.
const MAX_TIME: Duration = Duration::from_secs(4);
