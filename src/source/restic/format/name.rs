//! Names of tree entries: bytes, quoted as Go's `strconv.Quote` does before JSON quotes them once more.

use crate::error::{Error, Kind, Result};

/// The bytes of a name, from its text after JSON's own decoding. `Corrupt` when an escape is malformed.
///
/// Reads what Go's `Unquote` reads, and like rustic also `\'`, a bare `"` and a bare line feed, which have one meaning only.
pub fn unquote(json_decoded: &[u8]) -> Result<Vec<u8>> {
    let mut name = Vec::with_capacity(json_decoded.len());
    let mut rest = json_decoded;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        let (plain, escape) = rest.split_at(at);
        name.extend_from_slice(plain);
        rest = escape
            .get(1..)
            .and_then(|escape| take_escape(escape, &mut name))
            .ok_or_else(|| Error::new(Kind::Corrupt, "a name with a malformed escape"))?;
    }
    name.extend_from_slice(rest);
    Ok(name)
}

/// Decodes one escape, given from behind its backslash, onto `name`; returns what follows.
fn take_escape<'a>(escape: &'a [u8], name: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&letter, rest) = escape.split_first()?;
    let byte = match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' | b'\'' => letter,
        b'0'..=b'7' => {
            let (value, rest) = digits(escape, 3, 8)?;
            name.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        b'x' => {
            let (value, rest) = digits(rest, 2, 16)?;
            name.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        b'u' | b'U' => {
            let (value, rest) = digits(rest, if letter == b'u' { 4 } else { 8 }, 16)?;
            let mut utf8 = [0; 4];
            name.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut utf8).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    name.push(byte);
    Some(rest)
}

/// The number in the first `count` digits, and what follows them.
fn digits(text: &[u8], count: usize, radix: u32) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(count)?;
    let value = digits.iter().try_fold(0, |value: u32, &digit| {
        value.checked_mul(radix)?.checked_add(char::from(digit).to_digit(radix)?)
    })?;
    Some((value, rest))
}
