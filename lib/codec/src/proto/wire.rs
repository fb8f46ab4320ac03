//! The protobuf wire format: tags, varints, lengths.

use super::ProtoError;

/// Writes a varint.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes an integer field; negative numbers take ten bytes.
pub fn int(out: &mut Vec<u8>, tag: u32, value: i64) {
    varint(out, u64::from(tag) << 3);
    varint(out, value as u64);
}

/// Writes a 64-bit float field.
pub fn double(out: &mut Vec<u8>, tag: u32, value: f64) {
    varint(out, u64::from(tag) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a bytes or string field.
pub fn bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    varint(out, u64::from(tag) << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Writes a nested message. The length is put in afterwards: one byte is kept free for it, longer ones move the
/// body, which costs less than encoding twice or into a buffer of its own.
pub fn message(out: &mut Vec<u8>, tag: u32, body: impl FnOnce(&mut Vec<u8>)) {
    varint(out, u64::from(tag) << 3 | 2);
    let at = out.len();
    out.push(0);
    body(out);
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    varint(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}

/// A field's value as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Varint.
    Int(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes; no field of the API has this form.
    Fixed32,
    /// Bytes with a length.
    Bytes(&'a [u8]),
}

/// Reads fields one by one.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads this message.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field number and value; `None` at the end.
    pub fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, ProtoError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| ProtoError::Malformed("illegal tag"))?;
        if tag == 0 {
            return Err(ProtoError::Malformed("illegal tag 0"));
        }
        let value = match key & 7 {
            0 => Value::Int(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtoError::Eof)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed32)?,
            _ => return Err(ProtoError::Malformed("illegal wireType")),
        };
        Ok(Some((tag, value)))
    }

    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads a varint.
    pub fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at as u32).min(63);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        match self.rest.len() < 10 {
            true => Err(ProtoError::Eof),
            false => Err(ProtoError::Malformed("integer overflow")),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtoError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtoError::Eof)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtoError> {
        self.take(N)?.try_into().map_err(|_| ProtoError::Eof)
    }
}

/// Bytes as text; invalid UTF-8 is replaced, as Go keeps such strings too.
pub fn text(bytes: &[u8]) -> Result<String, ProtoError> {
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    })
}
