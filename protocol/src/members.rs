//! The members of a JSON object, each read only once its type is known.
//!
//! serde's own ways to choose a type by the value of a member keep copies of all values, secrets
//! too, which nobody wipes; here the values stay where they came in.

use std::collections::{BTreeMap, btree_map};
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::malformed::{Malformed, excerpt, without_value};

/// Members by name.
#[derive(Default)]
pub(crate) struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    /// Reads an object and nothing else. What was understood before a mistake stays, so that it
    /// can be answered.
    pub(crate) fn read(&mut self, content: &'a [u8]) -> Result<(), Malformed> {
        let text = std::str::from_utf8(content).map_err(|error| {
            Malformed::new(format_args!("not UTF-8 from byte {} on", error.valid_up_to()))
        })?;
        let mut json = serde_json::Deserializer::from_str(text);
        self.deserialize(&mut json).and_then(|()| json.end()).map_err(|error| {
            Malformed::new(format_args!("not JSON as it should be: {}", without_value(&error)))
        })
    }

    /// Whether there is such a member.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text that may be missing, or be none.
    pub(crate) fn peek(&self, name: &str) -> Option<String> {
        String::deserialize(*self.0.get(name)?).ok()
    }

    /// A member that may be missing, or null.
    pub(crate) fn take<T: Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, Malformed> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        Option::deserialize(value).map_err(|error| Malformed::member(name, without_value(&error)))
    }

    /// A member that must not be missing.
    pub(crate) fn require<T: Deserialize<'a>>(
        &mut self,
        name: &'static str,
    ) -> Result<T, Malformed> {
        self.take(name)?.ok_or_else(|| de::Error::missing_field(name))
    }

    /// All that is left, as the members of one type.
    pub(crate) fn rest<T: Deserialize<'a>>(self) -> Result<T, Malformed> {
        let rest = Rest { members: self.0.into_iter(), next: None };
        T::deserialize(MapAccessDeserializer::new(rest))
    }
}

impl<'a> DeserializeSeed<'a> for &mut Members<'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for &mut Members<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value()?;
            match self.0.entry(name) {
                btree_map::Entry::Occupied(entry) => {
                    return Err(de::Error::custom(format_args!(
                        "more than one member `{}`",
                        excerpt(entry.key(), 40)
                    )));
                }
                btree_map::Entry::Vacant(entry) => entry.insert(value),
            };
        }
        Ok(())
    }
}

/// Members on their way into a type. A mistake carries the name of its member.
struct Rest<'a> {
    members: btree_map::IntoIter<String, &'a RawValue>,
    next: Option<(String, &'a RawValue)>,
}

impl<'a> MapAccess<'a> for Rest<'a> {
    type Error = Malformed;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Malformed> {
        self.next = self.members.next();
        let Some((name, _)) = &self.next else { return Ok(None) };
        seed.deserialize(name.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Malformed> {
        let Some((name, value)) = self.next.take() else {
            return Err(Malformed::new("a member has no value"));
        };
        seed.deserialize(value).map_err(|error| Malformed::member(&name, without_value(&error)))
    }
}
