//! 32-byte identifiers of packs, blobs and repository files.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};

use crate::error::{Error, Kind};

/// A 32-byte id, written as 64 lowercase hexadecimal digits. What it identifies is in the name of the variable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 32]);

/// Room for what most lists of parts come to.
const SHORT: usize = 256;

impl Id {
    /// What stands for `parts`, and for no other list of parts. Cryptographic: in a shared mount nobody must be able to
    /// make an entry that is taken for a file of somebody else.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(SHORT);
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        let mut id = [0; 32];
        id.iter_mut().zip(digest(&SHA256, &bytes).as_ref()).for_each(|(to, from)| *to = *from);
        Id(id)
    }

    /// Its first half, as a number.
    pub fn half(&self) -> u128 {
        self.0.first_chunk().copied().map_or(0, u128::from_le_bytes)
    }

    /// The first eight bytes as a number: ids are hashes, so it spreads evenly.
    pub fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The first eight digits: enough for a person.
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The value of a lowercase hexadecimal digit, or something above 15.
fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => 0xff,
    }
}

impl FromStr for Id {
    type Err = Error;

    /// Exactly 64 lowercase hexadecimal digits; anything else is `Kind::Corrupt`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::new(Kind::Corrupt, format!("not an id: {:?}", text.chars().take(80).collect::<String>()))
        };
        if text.len() != 64 {
            return Err(wrong());
        }
        let mut id = [0u8; 32];
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        // Looked at once at the end: an index has a million of these.
        let mut all = 0;
        for (byte, &[high, low]) in id.iter_mut().zip(pairs) {
            let (high, low) = (digit(high), digit(low));
            all |= high | low;
            *byte = high << 4 | low & 0x0f;
        }
        if all > 0x0f { Err(wrong()) } else { Ok(Id(id)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_everything_else() {
        let text = "00ff0a1920c5bbe912c0cc0026aca46504d0d40de77561cedb3b170f94c1066d";
        let id: Id = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.short(), "00ff0a19");
        for bad in [
            "",
            &text[1..],
            &text.to_uppercase(),
            &text.replace('f', "g"),
            &format!("{text}0"),
            &"é".repeat(32),
        ] {
            assert_eq!(bad.parse::<Id>().unwrap_err().kind(), Kind::Corrupt, "{bad}");
        }
    }
}
