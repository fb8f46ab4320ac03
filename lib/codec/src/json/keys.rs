//! The names of members.

use machinery::schema::{Field, Type};
use serde::de::{self, DeserializeSeed, Deserializer, Visitor};
use std::fmt;

/// Reads a map key as text; YAML keys may be numbers or booleans.
pub struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<String, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_string<E: de::Error>(self, key: String) -> Result<String, E> {
        Ok(key)
    }

    fn visit_i64<E: de::Error>(self, key: i64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_u64<E: de::Error>(self, key: u64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_f64<E: de::Error>(self, key: f64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_bool<E: de::Error>(self, key: bool) -> Result<String, E> {
        Ok(key.to_string())
    }
}

/// A member of a struct.
pub enum Member {
    Known(&'static Field),
    Unknown(String),
}

/// Looks a member up without copying its name.
pub struct MemberSeed(pub &'static Type);

impl<'de> DeserializeSeed<'de> for MemberSeed {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Member, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Visitor<'_> for MemberSeed {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Member, E> {
        Ok(self.0.field(name).map_or_else(|| Member::Unknown(name.to_string()), Member::Known))
    }

    fn visit_i64<E: de::Error>(self, name: i64) -> Result<Member, E> {
        Ok(Member::Unknown(name.to_string()))
    }

    fn visit_u64<E: de::Error>(self, name: u64) -> Result<Member, E> {
        Ok(Member::Unknown(name.to_string()))
    }

    fn visit_f64<E: de::Error>(self, name: f64) -> Result<Member, E> {
        Ok(Member::Unknown(name.to_string()))
    }

    fn visit_bool<E: de::Error>(self, name: bool) -> Result<Member, E> {
        Ok(Member::Unknown(name.to_string()))
    }
}
