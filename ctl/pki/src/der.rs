//! The few forms of ASN.1 that private keys come in, put together and taken apart.

/// Tags used here.
pub const INTEGER: u8 = 0x02;
/// A string of octets.
pub const OCTETS: u8 = 0x04;
/// A sequence.
pub const SEQUENCE: u8 = 0x30;
/// The first optional member of a structure.
pub const FIRST: u8 = 0xa0;

/// An element: tag, length, content.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(short as u8),
        long => {
            let bytes: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

/// The first element of `der`: its tag, its content, and what follows.
pub fn take(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=127 => (usize::from(first), rest),
        // Four bytes of length are more than any key has.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The content of the first element, when it has this tag, and what follows.
pub fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    take(der).filter(|(t, _, _)| *t == tag).map(|(_, content, rest)| (content, rest))
}

/// The members of a structure.
pub fn members(mut content: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut out = Vec::new();
    while !content.is_empty() {
        let (tag, member, rest) = take(content)?;
        out.push((tag, member));
        content = rest;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back() {
        for len in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7u8; len];
            let der = [element(OCTETS, &content), vec![1, 2]].concat();
            assert_eq!(take(&der), Some((OCTETS, content.as_slice(), [1u8, 2].as_slice())));
        }
        for bad in [&[][..], &[4], &[4, 2, 0], &[4, 0x85, 0, 0, 0, 0, 1, 0], &[4, 0x82, 1]] {
            assert_eq!(take(bad), None);
        }
    }
}
