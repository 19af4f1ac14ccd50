//! Keys as listings spell them.

/// A key of a listing with `encoding-type=url`: `%XX` is a byte and `+` a space. `None` when it is no such spelling, or
/// no text.
pub(super) fn decoded(spelled: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(spelled.len());
    let mut rest = spelled.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_spelled() {
        for (spelled, key) in [
            ("data/00/00ff", "data/00/00ff"),
            ("with+space%2Band%20more", "with space+and more"),
            ("line%0Abreak", "line\nbreak"),
            ("%E6%97%A5", "日"),
            ("", ""),
        ] {
            assert_eq!(decoded(spelled).as_deref(), Some(key), "{spelled}");
        }
        for wrong in ["%", "%2", "%zz", "%FF", "a%"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }
}
