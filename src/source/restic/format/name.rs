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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Go's `strconv.Quote` writes between its quotes, as far as the characters of these tests go.
    fn quote(name: &[u8]) -> String {
        let mut quoted = String::new();
        for chunk in name.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' | '\\' => quoted.extend(['\\', c]),
                    '\n' => quoted.push_str("\\n"),
                    ' '..='~' | 'ä'..='ÿ' => quoted.push(c),
                    '\0'..='\x7f' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
                    '\u{80}'..='\u{ffff}' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
                    _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
                }
            }
            chunk.invalid().iter().for_each(|byte| quoted.push_str(&format!("\\x{byte:02x}")));
        }
        quoted
    }

    /// From the text between the quotes of a JSON string.
    fn from_json(text: &str) -> Vec<u8> {
        let decoded: String = serde_json::from_str(&format!("\"{text}\"")).unwrap();
        unquote(decoded.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_unquoted_after_json() {
        for (json, name) in [
            (r#"quote\\\"d"#, &b"quote\"d"[..]),
            (r"back\\\\slash", b"back\\slash"),
            (r"latin\\xe9", b"latin\xe9"),
            (r"nbsp\\u00a0", "nbsp\u{a0}".as_bytes()),
            (r"\\U000e0001", "\u{e0001}".as_bytes()),
            (r"\\xed\\xa0\\x80", b"\xed\xa0\x80"),
            (r"a\\nb", b"a\nb"),
            (r"\u003c\u003e\u0026", b"<>&"),
            ("\u{fffd}", "\u{fffd}".as_bytes()),
            ("'`", b"'`"),
            ("plain", b"plain"),
            ("", b""),
        ] {
            assert_eq!(from_json(json), name, "{json}");
        }
    }

    #[test]
    fn every_escape_of_go_is_read() {
        let text = r#"\a\b\f\n\r\t\v\\\"\x00\xFf\000\377\101\u00e9\U0010FFFF"#;
        let expected = b"\x07\x08\x0c\n\r\t\x0b\\\"\x00\xff\x00\xffA\xc3\xa9\xf4\x8f\xbf\xbf";
        assert_eq!(unquote(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_has_one_meaning_only_is_read_although_go_refuses_it() {
        assert_eq!(unquote(br#"\'"#).unwrap(), b"'");
        assert_eq!(unquote(b"a\"b\nc").unwrap(), b"a\"b\nc");
        assert_eq!(unquote(b"\xff raw").unwrap(), b"\xff raw");
    }

    #[test]
    fn malformed_escapes_are_corrupt() {
        for text in [
            r"\",
            r"a\",
            r"\q",
            r"\x",
            r"\x1",
            r"\xg0",
            r"\0",
            r"\01",
            r"\08",
            r"\400",
            r"\777",
            r"\8",
            r"\u12",
            r"\u+123",
            r"\ud800",
            r"\udfff",
            r"\U00110000",
            r"\UFFFFFFFF",
            r"\U0000d800",
            r"\xé",
        ] {
            assert_eq!(unquote(text.as_bytes()).unwrap_err().kind(), Kind::Corrupt, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_a_writer_quotes(name: Vec<u8>) {
            prop_assert_eq!(unquote(quote(&name).as_bytes()).unwrap(), name);
        }

        #[test]
        fn reads_text_that_a_writer_quotes(name in "[\\PC\\n\\\\\"äÿ\u{a0}\u{e0001}]{0,20}") {
            prop_assert_eq!(unquote(quote(name.as_bytes()).as_bytes()).unwrap(), name.as_bytes());
        }

        #[test]
        fn never_longer_than_its_text(text in r#"([\\xuU0-9a-f]|\PC)*"#) {
            if let Ok(name) = unquote(text.as_bytes()) {
                prop_assert!(name.len() <= text.len());
            }
        }
    }
}
