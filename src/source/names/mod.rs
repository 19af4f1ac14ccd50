//! What the names say that administrators and their programs give to snapshots on a file system: times, hosts and paths.
//!
//! Kinds that find snapshots by their names share this. Names are bytes and anybody's; what cannot be read as it is hoped
//! says nothing.

mod hour;
mod set;
mod time;

pub use set::SetName;
pub use time::Times;

use std::sync::Arc;

/// A name as text: bytes that are no UTF-8, and control characters, are percent-escaped. Two names are different texts
/// unless one of them holds such an escape already.
pub fn text(name: &[u8]) -> Arc<str> {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c.is_control() {
                true => escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                false => text.push(c),
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text.into()
}

fn escape(text: &mut String, bytes: &[u8]) {
    bytes.iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_whatever_their_bytes() {
        for (name, shown) in [
            (&b"before the upgrade"[..], "before the upgrade"),
            ("Übung-日".as_bytes(), "Übung-日"),
            (b"a\xffb\xc3", "a%FFb%C3"),
            (b"a\nb\x7f\xc2\x9b", "a%0Ab%7F%C2%9B"),
            (b"", ""),
        ] {
            assert_eq!(&*text(name), shown);
        }
    }
}
