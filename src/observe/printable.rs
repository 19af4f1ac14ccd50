//! Text that a terminal shows as it is meant.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// `name` for JSON: as text, with U+FFFD for what is not UTF-8; then also in base64, which holds every byte. It goes under
/// a second key, `…_base64`.
pub fn json_name(name: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(name) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(name).into_owned(), Some(BASE64.encode(name))),
    }
}

/// Shows `text` with everything escaped that could move a cursor, colour a terminal, break a line or reorder what is
/// seen: control characters, line and paragraph separators, bidirectional controls.
pub fn printable(text: &str) -> impl fmt::Display + '_ {
    Printable(text)
}

struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_unfit) {
            let (plain, tail) = rest.split_at(at);
            f.write_str(plain)?;
            let mut chars = tail.chars();
            if let Some(unfit) = chars.next() {
                write!(f, "{}", unfit.escape_default())?;
            }
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

/// What a terminal might obey, or show elsewhere.
pub(super) fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_spelled_out() {
        for (text, shown) in [
            ("plain 日本 \\x", "plain 日本 \\x"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\x1b[2Jgone", "\\u{1b}[2Jgone"),
            ("del\x7f c1\u{9b}", "del\\u{7f} c1\\u{9b}"),
            ("txt.\u{202e}exe\u{2066}", "txt.\\u{202e}exe\\u{2066}"),
            ("", ""),
        ] {
            assert_eq!(printable(text).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn json_names_keep_every_byte(name in prop::collection::vec(any::<u8>(), 0..24)) {
            let back = match json_name(&name) {
                (text, None) => text.into_bytes(),
                (_, Some(exact)) => BASE64.decode(exact).unwrap(),
            };
            prop_assert_eq!(back, name);
        }

        #[test]
        fn nothing_unfit_is_left_and_nothing_else_is_touched(text in any::<String>()) {
            let shown = printable(&text).to_string();
            prop_assert!(!shown.contains(is_unfit));
            if !text.contains(is_unfit) {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
