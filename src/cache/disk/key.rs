//! What entries are found by.

use aws_lc_rs::digest::{Context, SHA256};

/// Whose entries they are: the store that they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub(super) u64);

/// What one entry is: half of a SHA-256, so that nobody can choose two that are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(super) [u8; Key::BYTES]);

impl Owner {
    /// The store that is called `name`.
    pub fn of(name: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = hash(b"store", &[name.as_bytes()]);
        Owner(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// What a file is called that says of the directory which it is in: this belongs to the store as well.
    pub(super) fn mark(self) -> String {
        format!("store-{:016x}", self.0)
    }
}

impl Key {
    pub(super) const BYTES: usize = 16;

    /// Bytes of an object that never changes: `object` is the pack's id or the object's key.
    pub fn range(owner: Owner, object: &[u8], offset: u64, length: u64) -> Self {
        Key(hash(b"range", &[&owner.0.to_le_bytes(), &offset.to_le_bytes(), &length.to_le_bytes(), object]))
    }

    /// A whole object.
    pub fn whole(owner: Owner, object: &str) -> Self {
        Key(hash(b"whole", &[&owner.0.to_le_bytes(), object.as_bytes()]))
    }

    /// Spread evenly: which bucket of the table it belongs to, and what it is known by there.
    pub(super) fn halves(&self) -> (u64, u64) {
        let half = |half: Option<&[u8; 8]>| half.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        (half(self.0.last_chunk()), half(self.0.first_chunk()))
    }
}

/// All parts but the last are of fixed length.
fn hash(what: &[u8; 5], parts: &[&[u8]]) -> [u8; Key::BYTES] {
    let mut hash = Context::new(&SHA256);
    hash.update(what);
    parts.iter().for_each(|part| hash.update(part));
    hash.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_differs_in_anything_has_another_key() {
        let (a, b) = (Owner::of("s3:https://host/a"), Owner::of("s3:https://host/b"));
        let keys = [
            Key::range(a, b"pack", 0, 10),
            Key::range(b, b"pack", 0, 10),
            Key::range(a, b"pack", 10, 0),
            Key::range(a, b"pack", 1, 10),
            Key::range(a, b"other", 0, 10),
            Key::whole(a, "pack"),
            Key::whole(b, "pack"),
            Key::whole(a, "config"),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        assert_eq!(keys[0], Key::range(Owner::of("s3:https://host/a"), b"pack", 0, 10));
    }
}
