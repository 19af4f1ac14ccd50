//! The form in which writers leave a tree: no white space within a node, strings without escapes, numbers that are
//! whole. Read in one pass over the bytes.
//!
//! Whatever looks different is left to the general parser, which decides what it means: this one may give up on a node
//! at any point, but must never understand one otherwise than that parser would.

use std::borrow::Cow;

use serde::de::Error;
use serde_json::value::RawValue;

use super::parse::{Content, Hex, Raw, Text};
use crate::source::chunked::Id;

/// How every tree of restic and rustic begins.
pub(super) const OPENING: &str = "{\"nodes\":[";

/// Bytes of JSON that a node has at least, as a rule.
pub(super) const USUAL_NODE: usize = 300;

/// The nodes of a tree, one after the other.
pub(super) struct Nodes<'a> {
    at: Cursor<'a>,
    is_first: bool,
}

/// A node of a tree.
pub(super) enum Node<'a> {
    /// Read.
    Plain,
    /// Not of the usual form: its JSON.
    Other(&'a str),
}

impl<'a> Nodes<'a> {
    /// Of what follows [`OPENING`].
    pub(super) fn new(json: &'a str) -> Self {
        Nodes { at: Cursor { text: json, at: 0 }, is_first: true }
    }

    /// The next node, into `raw` if it can be; `None` behind the last. Errors: this is not the JSON of a list.
    pub(super) fn next(&mut self, raw: &mut Raw<'a>) -> serde_json::Result<Option<Node<'a>>> {
        self.at.skip_white();
        match (self.at.peek(), self.is_first) {
            (Some(b']'), _) => {
                self.at.at += 1;
                return Ok(None);
            }
            (_, true) => self.is_first = false,
            (Some(b','), false) => self.at.at += 1,
            _ => return Err(self.broken()),
        }
        self.at.skip_white();
        let mut cursor = self.at;
        if cursor.node(raw).is_some() {
            self.at = cursor;
            return Ok(Some(Node::Plain));
        }
        self.at.value()?.map(|json| Some(Node::Other(json.get()))).ok_or_else(|| self.broken())
    }

    /// What follows the list, without white space around it.
    pub(super) fn rest(&self) -> &'a str {
        self.at.rest().trim_matches([' ', '\n', '\t', '\r'])
    }

    fn broken(&self) -> serde_json::Error {
        serde_json::Error::custom(format!("the list of nodes breaks off at byte {}", self.at.at))
    }
}

/// Reads the value of a field.
type Read = for<'a> fn(&mut Cursor<'a>, &mut Raw<'a>) -> Option<()>;

/// The fields that are needed, in the order of the writers.
static FIELDS: [(&str, Read); 18] = [
    ("name", |at, raw| set(&mut raw.name, at.text())),
    ("type", |at, raw| set(&mut raw.kind, at.text())),
    ("mode", |at, raw| set(&mut raw.mode, at.short())),
    ("mtime", |at, raw| set(&mut raw.mtime, at.text())),
    ("atime", |at, raw| set(&mut raw.atime, at.text())),
    ("ctime", |at, raw| set(&mut raw.ctime, at.text())),
    ("uid", |at, raw| set(&mut raw.uid, at.short())),
    ("gid", |at, raw| set(&mut raw.gid, at.short())),
    ("inode", |at, raw| set(&mut raw.inode, at.number())),
    ("device_id", |at, raw| set(&mut raw.device_id, at.number())),
    ("size", |at, raw| set(&mut raw.size, at.number())),
    ("links", |at, raw| set(&mut raw.links, at.number())),
    ("linktarget", |at, raw| set(&mut raw.linktarget, at.text())),
    ("linktarget_raw", |at, raw| set(&mut raw.linktarget_raw, at.text())),
    ("extended_attributes", |at, raw| set(&mut raw.extended_attributes, at.value().ok().flatten())),
    ("device", |at, raw| set(&mut raw.device, at.number())),
    ("content", |at, raw| set(&mut raw.content, at.content())),
    ("subtree", |at, raw| set(&mut raw.subtree, at.id().map(Hex))),
];

#[inline]
fn set<T>(field: &mut Option<T>, value: Option<T>) -> Option<()> {
    *field = Some(value?);
    Some(())
}

/// The number of the field called `key`, which most likely is `next`.
#[inline]
fn number_of(key: &str, next: usize) -> Option<usize> {
    let is = |field: &(&str, Read)| field.0 == key;
    if FIELDS.get(next).is_some_and(is) { Some(next) } else { FIELDS.iter().position(is) }
}

/// How many bytes come before the first that ends a string or needs a closer look: `"`, `\\`, a control character.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1) | below(word, 0x20);
        if found != 0 {
            // What borrows make of bytes behind the first found one does not matter.
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    words.len() * 8 + rest.iter().position(ends).unwrap_or(rest.len())
}

/// A place in the text. Every step goes on behind what it read, or gives up.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn eat_null(&mut self) -> bool {
        let is_null = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(b"null"));
        self.at += if is_null { 4 } else { 0 };
        is_null
    }

    fn skip_white(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// A value of any form, by the general parser.
    fn value(&mut self) -> serde_json::Result<Option<&'a RawValue>> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<&RawValue>();
        let value = values.next().transpose()?;
        self.at += values.byte_offset();
        Ok(value)
    }

    /// The text of a string that is written as it is.
    #[inline]
    fn string(&mut self) -> Option<&'a str> {
        self.eat(b'"')?;
        let from = self.at;
        self.at += plain_length(self.text.as_bytes().get(from..)?);
        let string = self.text.get(from..self.at)?;
        self.eat(b'"')?;
        Some(string)
    }

    #[inline]
    fn text(&mut self) -> Option<Text<'a>> {
        self.string().map(|string| Text(Cow::Borrowed(string)))
    }

    /// A whole number. What stands behind it is looked at by whoever goes on from there.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        let from = self.at;
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            self.at += 1;
        }
        let is_padded = self.at > from + 1 && self.text.as_bytes().get(from) == Some(&b'0');
        (self.at > from && !is_padded).then_some(value)
    }

    fn short(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn id(&mut self) -> Option<Id> {
        self.eat(b'"')?;
        let id = self.text.get(self.at..self.at + 64)?.parse().ok()?;
        self.at += 64;
        self.eat(b'"')?;
        Some(id)
    }

    fn content(&mut self) -> Option<Content> {
        self.eat(b'[')?;
        if self.eat(b']').is_some() {
            return Some(Content::Many(Vec::new()));
        }
        let first = self.id()?;
        if self.eat(b']').is_some() {
            return Some(Content::One(first));
        }
        let mut ids = vec![first];
        loop {
            self.eat(b',')?;
            ids.push(self.id()?);
            if self.eat(b']').is_some() {
                return Some(Content::Many(ids));
            }
        }
    }

    /// Reads a node into `raw`, which is as good as empty when there is none.
    fn node(&mut self, raw: &mut Raw<'a>) -> Option<()> {
        *raw = Raw::default();
        self.eat(b'{')?;
        let (mut next, mut seen) = (0, 0);
        loop {
            let key = self.string()?;
            self.eat(b':')?;
            match number_of(key, next) {
                Some(field) => {
                    next = field + 1;
                    self.field(field, raw, &mut seen)?;
                }
                None => self.pass()?,
            }
            let behind = self.peek()?;
            self.at += 1;
            match behind {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// Reads the value of field number `field`; `seen` has a bit for each that came before.
    fn field(&mut self, field: usize, raw: &mut Raw<'a>, seen: &mut u32) -> Option<()> {
        let before = std::mem::replace(seen, *seen | 1 << field);
        if before == *seen {
            return None;
        }
        if self.eat_null() {
            return Some(());
        }
        let (_, read) = FIELDS.get(field)?;
        read(self, raw)
    }

    /// Passes over the value of a field that nobody needs.
    fn pass(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'0'..=b'9' => self.number().map(|_| ()),
            _ => self.value().ok()?.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::source::restic::format::tree::{Flaw, Tree};

    /// A few nodes that have every field, as restic writes them.
    fn written() -> String {
        let id = |byte: u8| Id([byte; 32]);
        let common = |name: &str, kind: &str| {
            format!(
                r#"{{"name":"{name}","type":"{kind}","mode":420,"mtime":"2024-01-16T03:00:00.5+01:00","atime":"2024-01-16T03:00:00Z","ctime":"2024-01-16T03:00:00Z","uid":1000,"gid":0,"user":"bob","group":"","inode":{},"device_id":64769,"#,
                name.len()
            )
        };
        let attributes =
            r#""extended_attributes":[{"name":"user.a","value":"AQI="}],"generic_attributes":{"x":[{}]},"#;
        let nodes = [
            common("a", "file") + &format!(r#""size":5,"links":2,"content":["{}","{}"]}}"#, id(1), id(2)),
            common("b ä", "file") + attributes + &format!(r#""size":0,"content":["{}"]}}"#, id(3)),
            common("c", "dir") + &format!(r#""content":null,"subtree":"{}"}}"#, id(4)),
            common(r#"d\"\\\\x41"#, "symlink")
                + r#""linktarget":"x","linktarget_raw":"eA==","content":null}"#,
            common("e", "chardev") + r#""device":259,"content":[]}"#,
        ];
        format!("{{\"nodes\":[{}]}}\n", nodes.join(","))
    }

    /// What is listed and what is told of a tree: by this parser where it can, or by the general one alone.
    fn read(json: &[u8]) -> Option<(Vec<String>, Vec<Flaw>)> {
        let mut flaws = Vec::new();
        let tree = Tree::parse(json, &mut |flaw| flaws.push(flaw)).ok()?;
        let nodes = (0..tree.len()).map(|at| tree.entry(at).unwrap());
        let shown = nodes.map(|node| {
            let device = node.device_inode();
            format!("{:?} {:x} {device:?} {:?}", node.name().escape_ascii(), node.digest(), node.subtree())
        });
        Some((shown.collect(), flaws))
    }

    /// White space before the first key keeps this parser out.
    fn generally(json: &[u8]) -> Option<(Vec<String>, Vec<Flaw>)> {
        let apart = [b"{ ", json.strip_prefix(b"{").unwrap_or(json)].concat();
        read(if json.starts_with(b"{") { &apart } else { json })
    }

    fn plain(json: &str) -> bool {
        let (mut nodes, mut raw) = (Nodes::new(json), Raw::default());
        matches!(nodes.next(&mut raw), Ok(Some(Node::Plain)))
    }

    #[test]
    fn what_writers_leave_is_read_here_and_all_else_by_the_general_parser() {
        let json = written();
        let (mut nodes, mut raw) = (Nodes::new(json.strip_prefix(OPENING).unwrap()), Raw::default());
        let mut general = Vec::new();
        while let Some(node) = nodes.next(&mut raw).unwrap() {
            general.extend(if let Node::Other(json) = node { Some(json) } else { None });
        }
        assert!(matches!(&general[..], [escapes] if escapes.contains("linktarget_raw")), "{general:?}");
        assert_eq!(nodes.rest(), "}");
        for odd in [
            r#"{"name":"a\u0041"}"#,
            r#"{"name": "a"}"#,
            r#"{"size":01}"#,
            r#"{"size":1.0}"#,
            r#"{"size":-1}"#,
            r#"{"size":18446744073709551616}"#,
            r#"{"mode":4294967296}"#,
            r#"{"name":"a","name":"b"}"#,
            r#"{"name":null,"name":"b"}"#,
            r#"{"content":["00"]}"#,
            r#"{"content":[1]}"#,
            r#"{"name":5}"#,
            "{}",
            "null",
        ] {
            assert!(!plain(&format!("{odd}]")), "{odd}");
        }
        assert!(plain(r#"{"future":[{"a":"]}"}],"more":true,"size":0}]"#));
    }

    #[test]
    fn both_parsers_agree_on_what_writers_leave() {
        let (shown, flaws) = read(written().as_bytes()).unwrap();
        assert_eq!((shown.len(), &flaws[..]), (5, &[][..]));
        assert_eq!(generally(written().as_bytes()), Some((shown, flaws)));
    }

    #[test]
    fn what_surrounds_the_nodes_is_read_too() {
        let one = r#"{"name":"a","type":"fifo"}"#;
        for (json, names) in [
            (format!("{{\"nodes\":[{one}],\"more\":[1]}}"), 1),
            (format!("{{\"nodes\":[ {one} \n] }} "), 1),
            (format!("{{\"nodes\":[{one}],\"nodes\":[{}]}}", one.replace("\"a", "\"b")), 2),
        ] {
            assert_eq!(read(json.as_bytes()).unwrap().0.len(), names, "{json}");
        }
        for broken in ["", "}", "]}}", "]", "]}x", ",]}", "] ,}", "],}"] {
            assert!(read(format!("{{\"nodes\":[{one}{broken}").as_bytes()).is_none(), "{broken}");
        }
        assert!(read(br#"{"nodes":[,]}"#).is_none());
    }

    proptest! {
        #[test]
        fn both_parsers_agree_on_what_is_damaged(
            at: prop::sample::Index,
            length in 0usize..4,
            with in prop::collection::vec(prop::sample::select(br#"a0.-"\{}[]:, "#.to_vec()), 0..4),
        ) {
            let mut json = written().into_bytes();
            let at = at.index(json.len());
            let end = (at + length).min(json.len());
            json.splice(at..end, with);
            if json.starts_with(b"{") {
                prop_assert_eq!(read(&json), generally(&json), "{}", String::from_utf8_lossy(&json));
            }
        }

        #[test]
        fn the_end_of_a_plain_string_is_found(text in r#"[a-z"\\\x00-\x24é]{0,40}"#) {
            let simple = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            let expected = text.bytes().position(|byte| simple(&byte)).unwrap_or(text.len());
            prop_assert_eq!(plain_length(text.as_bytes()), expected);
        }

        #[test]
        fn whole_numbers_are_read(number: u64, behind in "[,}]") {
            let text = format!("{number}{behind}");
            let mut cursor = Cursor { text: &text, at: 0 };
            prop_assert_eq!(cursor.number(), Some(number));
            prop_assert_eq!(cursor.rest(), behind);
        }
    }

    #[test]
    fn a_name_of_any_bytes_ends_where_it_ends() {
        let name = "é".repeat(100);
        let (tree, _) =
            read(format!("{{\"nodes\":[{}]}}", json!({"name": name, "type": "fifo"})).as_bytes()).unwrap();
        assert_eq!(tree.len(), 1);
    }
}
