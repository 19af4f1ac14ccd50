//! Index files: which blob lies where in which pack.
//!
//! Parsed in one pass that hands out each blob as it is read; a huge one is decompressed in the same pass. A malformed
//! entry costs that entry, malformed JSON costs the file.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::crypto::OVERHEAD;
use crate::error::{Error, Kind};
use crate::source::chunked::Id;

/// SHA-256 of nothing.
const EMPTY: Id = Id([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// One place of one blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedBlob {
    /// The pack that holds it.
    pub pack: Id,
    /// Its id.
    pub id: Id,
    /// Whether it is a tree; otherwise a piece of a file.
    pub tree: bool,
    /// Where its encrypted unit begins in the pack.
    pub offset: u32,
    /// Length of the encrypted unit, at least 32.
    pub length: u32,
    /// Length of the plaintext when it is compressed; 0 when it is not and the plaintext has `length - 32` bytes.
    pub plain_length: u32,
    /// Whether the pack is marked for deletion: it will go, but may still be there.
    pub deleted: bool,
}

/// Calls `each` for every blob in the index file `json` and returns how many malformed entries were left out.
///
/// Errors: `Unsupported` for the format of restic 0.1.0, `Corrupt` for anything else that is no index. What `each` was
/// given before an error is to be thrown away.
pub fn parse(json: &[u8], each: &mut dyn FnMut(IndexedBlob)) -> Result<u64, Error> {
    let first = json.iter().find(|byte| !byte.is_ascii_whitespace());
    parse_from(serde_json::Deserializer::from_slice(json), first == Some(&b'['), each)
}

/// Like [`parse`], for a file that is too large to be in memory. Slower. What fails to be read is `Corrupt` too.
pub fn parse_stream(json: impl Read, each: &mut dyn FnMut(IndexedBlob)) -> Result<u64, Error> {
    let mut json = BufReader::with_capacity(1 << 16, json);
    // Only a file that begins with the bracket itself is taken for an old one; nobody wrote one so large.
    let first = json.fill_buf().map_err(|e| Error::caused_by(Kind::Corrupt, "malformed index", e))?.first();
    let is_list = first == Some(&b'[');
    parse_from(serde_json::Deserializer::from_reader(json), is_list, each)
}

fn parse_from<'de, R: serde_json::de::Read<'de>>(
    mut input: serde_json::Deserializer<R>,
    is_list: bool,
    each: &mut dyn FnMut(IndexedBlob),
) -> Result<u64, Error> {
    let mut entries = Entries { each, skipped: 0, sections: 0 };
    if !is_list {
        let parsed = input.deserialize_map(FileVisitor(&mut entries)).and_then(|()| input.end());
        parsed.map_err(|e| Error::caused_by(Kind::Corrupt, "malformed index", e))?;
    }
    if entries.sections == 0 {
        return Err(Error::new(
            Kind::Unsupported,
            "an index in the format of restic 0.1.0; `restic repair index` of a release before 0.18 converts it",
        ));
    }
    Ok(entries.skipped)
}

struct Entries<'e> {
    each: &'e mut dyn FnMut(IndexedBlob),
    skipped: u64,
    sections: u32,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Packs,
    PacksToDelete,
    Blobs,
    Id,
    Type,
    Offset,
    Length,
    UncompressedLength,
    #[serde(other)]
    Other,
}

struct FileVisitor<'a, 'e>(&'a mut Entries<'e>);

impl<'de> Visitor<'de> for FileVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key()? {
            let deleted = match key {
                Key::Packs => false,
                Key::PacksToDelete => true,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            self.0.sections += 1;
            map.next_value_seed(Lenient(Packs { entries: self.0, deleted }))?;
        }
        Ok(())
    }
}

/// The list of packs.
struct Packs<'a, 'e> {
    entries: &'a mut Entries<'e>,
    deleted: bool,
}

impl<'de> Shape<'de> for Packs<'_, '_> {
    type Out = ();

    fn wrong(self) {
        self.entries.skipped += 1;
    }

    fn null(self) {}

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(()) =
            list.next_element_seed(Lenient(Pack { entries: self.entries, deleted: self.deleted }))?
        {}
        Ok(())
    }
}

/// One pack.
struct Pack<'a, 'e> {
    entries: &'a mut Entries<'e>,
    deleted: bool,
}

impl<'de> Shape<'de> for Pack<'_, '_> {
    type Out = ();

    fn wrong(self) {
        self.entries.skipped += 1;
    }

    fn object<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut pack = None;
        let mut before_id = Vec::new();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Id => pack = map.next_value_seed(Lenient(Hex))?,
                Key::Blobs => {
                    let blobs = Blobs {
                        entries: self.entries,
                        deleted: self.deleted,
                        pack,
                        before_id: &mut before_id,
                    };
                    map.next_value_seed(Lenient(blobs))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        for blob in before_id {
            match pack {
                Some(pack) => (self.entries.each)(IndexedBlob { pack, ..blob }),
                None => self.entries.skipped += 1,
            }
        }
        Ok(())
    }
}

/// The list of a pack's blobs.
struct Blobs<'a, 'e> {
    entries: &'a mut Entries<'e>,
    deleted: bool,
    pack: Option<Id>,
    /// Blobs read before the pack's id is known: writers put the id first, JSON need not.
    before_id: &'a mut Vec<IndexedBlob>,
}

impl<'de> Shape<'de> for Blobs<'_, '_> {
    type Out = ();

    fn wrong(self) {
        self.entries.skipped += 1;
    }

    fn null(self) {}

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(blob) = list.next_element_seed(Lenient(Blob { deleted: self.deleted }))? {
            match (blob, self.pack) {
                (None, _) => self.entries.skipped += 1,
                (Some(blob), Some(pack)) => (self.entries.each)(IndexedBlob { pack, ..blob }),
                (Some(blob), None) => self.before_id.push(blob),
            }
        }
        Ok(())
    }
}

/// One blob, its pack still to be filled in; `None` when malformed.
struct Blob {
    deleted: bool,
}

impl<'de> Shape<'de> for Blob {
    type Out = Option<IndexedBlob>;

    fn wrong(self) -> Self::Out {
        None
    }

    fn object<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Out, A::Error> {
        let (mut id, mut tree, mut offset, mut length, mut plain_length) = (None, None, None, None, Some(0));
        while let Some(key) = map.next_key()? {
            match key {
                Key::Id => id = map.next_value_seed(Lenient(Hex))?,
                Key::Type => tree = map.next_value_seed(Lenient(BlobType))?,
                Key::Offset => offset = map.next_value_seed(Lenient(Number))?,
                Key::Length => length = map.next_value_seed(Lenient(Number))?,
                Key::UncompressedLength => plain_length = map.next_value_seed(Lenient(Number))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let complete = || {
            let blob = IndexedBlob {
                pack: Id([0; 32]),
                id: id?,
                tree: tree?,
                offset: offset?,
                length: length?,
                plain_length: plain_length?,
                deleted: self.deleted,
            };
            let fits = blob.length as usize >= OVERHEAD && blob.offset.checked_add(blob.length).is_some();
            // Nobody fetches nothing, so that this lie would never be found out.
            let empty = blob.length as usize == OVERHEAD && blob.plain_length == 0;
            (fits && (!empty || blob.id == EMPTY)).then_some(blob)
        };
        Ok(complete())
    }
}

struct Hex;

impl Shape<'_> for Hex {
    type Out = Option<Id>;

    fn wrong(self) -> Self::Out {
        None
    }

    fn text(self, text: &str) -> Self::Out {
        text.parse().ok()
    }
}

/// Whether it is a tree.
struct BlobType;

impl Shape<'_> for BlobType {
    type Out = Option<bool>;

    fn wrong(self) -> Self::Out {
        None
    }

    fn text(self, text: &str) -> Self::Out {
        match text {
            "tree" => Some(true),
            "data" => Some(false),
            _ => None,
        }
    }
}

struct Number;

impl Shape<'_> for Number {
    type Out = Option<u32>;

    fn wrong(self) -> Self::Out {
        None
    }

    fn number(self, number: u64) -> Self::Out {
        u32::try_from(number).ok()
    }
}

/// What is expected in one place of the JSON, and what to make of anything else.
trait Shape<'de>: Sized {
    type Out;

    /// Something else stands there.
    fn wrong(self) -> Self::Out;

    fn null(self) -> Self::Out {
        self.wrong()
    }

    fn number(self, _: u64) -> Self::Out {
        self.wrong()
    }

    fn text(self, _: &str) -> Self::Out {
        self.wrong()
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Out, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.wrong())
    }

    fn object<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Out, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self.wrong())
    }
}

/// Reads any JSON value through a [`Shape`]: the wrong kind of value is no error.
struct Lenient<S>(S);

impl<'de, S: Shape<'de>> DeserializeSeed<'de> for Lenient<S> {
    type Value = S::Out;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<S::Out, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de, S: Shape<'de>> Visitor<'de> for Lenient<S> {
    type Value = S::Out;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<S::Out, E> {
        Ok(self.0.null())
    }

    fn visit_bool<E>(self, _: bool) -> Result<S::Out, E> {
        Ok(self.0.wrong())
    }

    fn visit_i64<E>(self, _: i64) -> Result<S::Out, E> {
        Ok(self.0.wrong())
    }

    fn visit_f64<E>(self, _: f64) -> Result<S::Out, E> {
        Ok(self.0.wrong())
    }

    fn visit_u64<E>(self, number: u64) -> Result<S::Out, E> {
        Ok(self.0.number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<S::Out, E> {
        Ok(self.0.text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<S::Out, A::Error> {
        self.0.list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<S::Out, A::Error> {
        self.0.object(map)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn hex(byte: u8) -> String {
        Id([byte; 32]).to_string()
    }

    fn read(json: &Value) -> (Vec<IndexedBlob>, u64) {
        let mut blobs = Vec::new();
        let text = json.to_string();
        let skipped = parse(text.as_bytes(), &mut |blob| blobs.push(blob)).unwrap();
        let mut streamed = Vec::new();
        assert_eq!(parse_stream(text.as_bytes(), &mut |blob| streamed.push(blob)).unwrap(), skipped);
        assert_eq!(streamed, blobs);
        (blobs, skipped)
    }

    fn blob(pack: u8, id: u8) -> IndexedBlob {
        IndexedBlob {
            pack: Id([pack; 32]),
            id: Id([id; 32]),
            tree: false,
            offset: 0,
            length: 100,
            plain_length: 0,
            deleted: false,
        }
    }

    fn entry(id: u8) -> Value {
        json!({"id": hex(id), "type": "data", "offset": 0, "length": 100})
    }

    #[test]
    fn every_blob_of_every_pack_is_handed_out() {
        let index = json!({
            "supersedes": [hex(9)],
            "packs": [
                {"id": hex(1), "blobs": [
                    entry(2),
                    {"id": hex(3), "type": "tree", "offset": 100, "length": 150, "uncompressed_length": 400},
                    {"id": EMPTY.to_string(), "type": "data", "offset": 250, "length": 32, "uncompressed_length": 0},
                ]},
                {"time": "2024-01-01T00:00:00Z", "size": 1000, "id": hex(5), "blobs": [entry(2)]},
                {"id": hex(6), "blobs": []},
                {"id": hex(7), "blobs": null},
            ],
            "packs_to_delete": [{"id": hex(8), "time": "2024-01-01T00:00:00Z", "blobs": [entry(2)]}],
            "future": {"deep": [[[[]]]]},
        });
        let tree = IndexedBlob { tree: true, offset: 100, length: 150, plain_length: 400, ..blob(1, 3) };
        let empty = IndexedBlob { id: EMPTY, offset: 250, length: 32, ..blob(1, 4) };
        let deleted = IndexedBlob { deleted: true, ..blob(8, 2) };
        assert_eq!(read(&index), (vec![blob(1, 2), tree, empty, blob(5, 2), deleted], 0));
    }

    #[test]
    fn order_of_keys_does_not_matter() {
        let late_id = format!(r#"{{"packs":[{{"blobs":[{}],"id":"{}"}}]}}"#, entry(2), hex(1));
        let mut blobs = Vec::new();
        assert_eq!(parse(late_id.as_bytes(), &mut |blob| blobs.push(blob)).unwrap(), 0);
        assert_eq!(blobs, [blob(1, 2)]);
    }

    #[test]
    fn a_malformed_entry_costs_that_entry() {
        let replaced = |key: &str, value: Value| {
            let mut entry = entry(3);
            entry[key] = value;
            entry
        };
        let without = |key: &str| {
            let mut entry = entry(3);
            entry.as_object_mut().unwrap().remove(key);
            entry
        };
        let mut malformed =
            vec![json!(null), json!(5), json!("x"), json!([1, [2]]), json!({}), json!(true), json!(0.5)];
        malformed.extend(["id", "type", "offset", "length"].map(without));
        for key in ["id", "type", "offset", "length", "uncompressed_length"] {
            let wrong = [
                json!(-1),
                json!(0.5),
                json!(1u64 << 63),
                json!("zz"),
                json!([{}]),
                json!({"a": 1}),
                json!(false),
            ];
            malformed.extend(wrong.map(|value| replaced(key, value)));
        }
        malformed.push(replaced("length", json!(31)));
        malformed.push(replaced("length", json!(32)));
        malformed.push(replaced("offset", json!(u32::MAX)));
        malformed.push(replaced("type", json!("snapshot")));
        malformed.push(replaced("id", json!(hex(0xab).to_uppercase())));
        for bad in malformed {
            let index = json!({"packs": [{"id": hex(1), "blobs": [entry(2), bad, entry(4)]}]});
            assert_eq!(read(&index), (vec![blob(1, 2), blob(1, 4)], 1), "{bad}");
        }
    }

    #[test]
    fn a_malformed_pack_costs_that_pack() {
        for bad in [
            json!(null),
            json!("x"),
            json!([]),
            json!({"id": "short", "blobs": [entry(3)]}),
            json!({"blobs": [entry(3)]}),
            json!({"id": hex(1), "blobs": 5}),
            json!({"id": hex(1), "blobs": {"id": hex(3)}}),
        ] {
            let index = json!({"packs": [bad, {"id": hex(1), "blobs": [entry(2)]}]});
            assert_eq!(read(&index), (vec![blob(1, 2)], 1), "{bad}");
        }
    }

    #[test]
    fn malformed_json_costs_the_file() {
        let good = json!({"packs": [{"id": hex(1), "blobs": [entry(2)]}]}).to_string();
        for length in 1..good.len() {
            let error = parse(&good.as_bytes()[..length], &mut |_| ()).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{}", &good[..length]);
        }
        for junk in ["", "null", "5", "{]", &format!("{good}x")] {
            assert_eq!(parse(junk.as_bytes(), &mut |_| ()).unwrap_err().kind(), Kind::Corrupt, "{junk}");
            assert_eq!(
                parse_stream(junk.as_bytes(), &mut |_| ()).unwrap_err().kind(),
                Kind::Corrupt,
                "{junk}"
            );
        }
    }

    #[test]
    fn the_format_of_old_is_unsupported_with_a_hint() {
        for old in [json!([{"id": hex(1), "blobs": [entry(2)]}]), json!([]), json!({"blobs": []}), json!({})]
        {
            let error = parse(old.to_string().as_bytes(), &mut |_| ()).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{old}");
            let error = parse_stream(old.to_string().as_bytes(), &mut |_| ()).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{old}");
            assert!(error.to_string().contains("restic repair index"), "{error}");
        }
        assert_eq!(read(&json!({"packs": null})), (vec![], 0));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(packs in proptest::collection::vec(
            (any::<u8>(), proptest::collection::vec((any::<u8>(), any::<bool>(), 0u32.., 33u32.., any::<u32>()), 0..5)),
            0..5,
        )) {
            let mut expected = Vec::new();
            let mut written = Vec::new();
            for (pack, blobs) in packs {
                let mut entries = Vec::new();
                for (id, tree, offset, length, plain_length) in blobs {
                    let offset = offset.min(u32::MAX - length);
                    let kind = if tree { "tree" } else { "data" };
                    entries.push(json!({
                        "id": hex(id), "type": kind, "offset": offset, "length": length,
                        "uncompressed_length": plain_length,
                    }));
                    expected.push(IndexedBlob { tree, offset, length, plain_length, ..blob(pack, id) });
                }
                written.push(json!({"id": hex(pack), "blobs": entries}));
            }
            prop_assert_eq!(read(&json!({"packs": written})), (expected, 0));
        }
    }
}
