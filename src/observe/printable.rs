//! Text that a terminal shows as it is meant.

use std::fmt;

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

fn is_unfit(c: char) -> bool {
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
        fn nothing_unfit_is_left_and_nothing_else_is_touched(text in any::<String>()) {
            let shown = printable(&text).to_string();
            prop_assert!(!shown.contains(is_unfit));
            if !text.contains(is_unfit) {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
