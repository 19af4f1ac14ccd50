//! A key with its versions, packed.
//!
//! Row: length and bytes of the key, length of what follows, then versions from the newest: a flag (1: bytes, 0: deleted),
//! the time (8 bytes), of bytes their number and what they are known by, and the version's id. Lengths and numbers have
//! seven bits a byte, lowest first.

use crate::store::bucket::{Stored, Version};

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub key: &'a str,
    versions: &'a [u8],
}

/// One of its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Past<'a> {
    /// Milliseconds since 1970.
    pub changed: i64,
    /// Empty where the bucket keeps no versions.
    pub id: &'a str,
    /// `None` when this is a deletion.
    pub bytes: Option<Content<'a>>,
}

/// The bytes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content<'a> {
    pub size: u64,
    pub etag: &'a str,
}

fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    put_number(to, text.len() as u64);
    to.extend_from_slice(text.as_bytes());
}

/// Appends the row of `versions`, all of one key, which may be in any order and named twice.
pub(super) fn put(to: &mut Vec<u8>, versions: &mut Vec<Version>) {
    let Some(key) = versions.first().map(|version| version.key.clone()) else { return };
    // Of two in one millisecond the server knows which is the later one only when that is the newest of all.
    versions.sort_by(|a, b| (b.is_latest, b.changed, &b.id).cmp(&(a.is_latest, a.changed, &a.id)));
    versions.dedup_by(|a, b| a.id == b.id);
    let mut packed = Vec::new();
    for version in versions.iter() {
        packed.push(u8::from(version.stored.is_some()));
        packed.extend_from_slice(&version.changed.to_le_bytes());
        if let Some(Stored { size, etag }) = &version.stored {
            put_number(&mut packed, *size);
            put_text(&mut packed, etag);
        }
        put_text(&mut packed, version.id.as_deref().unwrap_or_default());
    }
    put_text(to, &key);
    put_number(to, packed.len() as u64);
    to.extend_from_slice(&packed);
}

/// What is left to be read.
struct Scan<'a>(&'a [u8]);

impl<'a> Scan<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn past(&mut self) -> Option<Past<'a>> {
        let (has_bytes, rest) = self.0.split_first()?;
        let (changed, rest) = rest.split_first_chunk()?;
        self.0 = rest;
        let bytes = match has_bytes {
            0 => None,
            _ => Some(Content { size: self.number()?, etag: self.text()? }),
        };
        Some(Past { changed: i64::from_le_bytes(*changed), id: self.text()?, bytes })
    }
}

impl<'a> Row<'a> {
    /// The row at the beginning of `packed`, and how long it is; `None` at the end, or where there is none.
    pub(super) fn first(packed: &'a [u8]) -> Option<(Self, usize)> {
        let mut scan = Scan(packed);
        let row = Row { key: scan.text()?, versions: scan.bytes()? };
        Some((row, packed.len() - scan.0.len()))
    }

    /// Its versions, the newest first.
    pub(super) fn history(self) -> impl Iterator<Item = Past<'a>> {
        let mut scan = Scan(self.versions);
        std::iter::from_fn(move || scan.past())
    }

    /// What the key meant at a moment (now without one): the newest version that was there by then, unless that is a
    /// deletion.
    pub(super) fn at(self, moment: Option<i64>) -> Option<(Past<'a>, Content<'a>)> {
        let found = self.history().find(|past| moment.is_none_or(|moment| past.changed <= moment))?;
        Some((found, found.bytes?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn version(id: &str, changed: i64, size: Option<u64>) -> Version {
        let stored = size.map(|size| Stored { size, etag: format!("\"{id}\"") });
        Version { key: "k/é".into(), id: Some(id.into()), changed, is_latest: false, stored }
    }

    #[test]
    fn a_key_means_what_was_newest_by_then() {
        let mut versions = vec![
            version("a", 10, Some(1)),
            version("c", 30, None),
            version("b", 20, Some(2)),
            version("d", 40, Some(300)),
        ];
        versions.push(versions[1].clone());
        let mut packed = Vec::new();
        put(&mut packed, &mut versions);
        let (row, length) = Row::first(&packed).unwrap();
        assert_eq!((row.key, length, row.history().count()), ("k/é", packed.len(), 4));
        let meant = |moment| row.at(moment).map(|(past, content)| (past.id.to_owned(), content.size));
        assert_eq!(meant(Some(9)), None, "not yet");
        assert_eq!(meant(Some(10)), Some(("a".into(), 1)));
        assert_eq!(meant(Some(29)), Some(("b".into(), 2)));
        assert_eq!(meant(Some(30)), None, "deleted");
        assert_eq!(meant(Some(40)), Some(("d".into(), 300)));
        assert_eq!(meant(None), Some(("d".into(), 300)));
    }

    #[test]
    fn of_two_changes_at_once_the_server_knows_the_last() {
        let latest = Version { is_latest: true, ..version("z", 10, None) };
        for mut versions in
            [vec![version("a", 10, Some(1)), latest.clone()], vec![latest, version("a", 10, Some(1))]]
        {
            let mut packed = Vec::new();
            put(&mut packed, &mut versions);
            assert_eq!(Row::first(&packed).unwrap().0.at(Some(10)), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_bytes_they_are_reading_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((row, length)) = Row::first(&bytes) {
                prop_assert!(length <= bytes.len());
                prop_assert!(row.history().count() <= bytes.len());
            }
        }

        #[test]
        fn what_was_packed_is_read(size: u64, changed: i64, etag in ".*", id in ".*") {
            let stored = Some(Stored { size, etag: etag.clone() });
            let version = Version { key: "k".into(), id: Some(id.clone()), changed, is_latest: true, stored };
            let mut packed = Vec::new();
            put(&mut packed, &mut vec![version]);
            let past = Row::first(&packed).unwrap().0.history().next().unwrap();
            prop_assert_eq!(past, Past { changed, id: &id, bytes: Some(Content { size, etag: &etag }) });
        }
    }
}
