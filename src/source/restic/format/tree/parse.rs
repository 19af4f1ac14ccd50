//! From JSON to records. A node as writers leave it is read in one pass ([`scan`]); whatever looks different is cut out
//! and given to the general parser, so that a malformed node costs only itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::record::{Arenas, Class, MISSING, Packed, Record};
use super::xattr::Attributes;
use super::{Flaw, Tree, scan};
use crate::error::{self, Error, Kind};
use crate::source::chunked::Id;
use crate::source::restic::format::{blob, mode, name, time};
use crate::tree::{FileType, Time};

/// The kernel takes no longer targets.
const MAX_TARGET: usize = 4095;

/// Why a node is left out.
type Reason = Cow<'static, str>;

impl Tree {
    /// Reads a tree blob. What is left out or not as it should be is passed to `flaw`. Errors: `Corrupt` when it is not
    /// the JSON of a tree, `Unsupported` when it is larger than any blob may be.
    pub fn parse(json: &[u8], flaw: &mut dyn FnMut(Flaw)) -> error::Result<Tree> {
        if json.len() > blob::MAX_PLAIN {
            return Err(Error::new(Kind::Unsupported, format!("a tree of {} bytes", json.len())));
        }
        // Go reads a malformed byte as U+FFFD, so such a tree is readable to restic.
        let text = std::str::from_utf8(json).map_or_else(|_| String::from_utf8_lossy(json), Cow::Borrowed);
        let mut parser = Parser::new(flaw, text.len());
        let parsed = match text.strip_prefix(scan::OPENING) {
            Some(nodes) => parser.nodes(nodes),
            None => parser.whole(&text),
        };
        parsed.map_err(|e| Error::caused_by(Kind::Corrupt, "malformed tree", e))?;
        let Parser { records, arenas, splices, flaw, .. } = parser;
        Ok(Tree::build(records, arenas, splices, flaw))
    }
}

struct TreeVisitor<'a, 'f>(&'a mut Parser<'f>);

impl<'de> Visitor<'de> for TreeVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tree")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Text>()? {
            if key.0 == "nodes" {
                map.next_value_seed(Nodes(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Nodes<'a, 'f>(&'a mut Parser<'f>);

impl<'de> de::DeserializeSeed<'de> for Nodes<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nodes<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut nodes: A) -> Result<(), A::Error> {
        while let Some(json) = nodes.next_element::<&RawValue>()? {
            self.0.node(json.get());
        }
        Ok(())
    }
}

/// A string, borrowed from the JSON unless it has escapes.
#[derive(Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// An id in hexadecimal.
pub(super) struct Hex(pub Id);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Text::deserialize(input)?.0.parse().map(Hex).map_err(de::Error::custom)
    }
}

/// A node as recorded. Other fields are skipped.
#[derive(Default, Deserialize)]
pub(super) struct Raw<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    pub mode: Option<u32>,
    #[serde(borrow)]
    pub mtime: Option<Text<'a>>,
    #[serde(borrow)]
    pub atime: Option<Text<'a>>,
    #[serde(borrow)]
    pub ctime: Option<Text<'a>>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub inode: Option<u64>,
    pub device_id: Option<u64>,
    pub size: Option<u64>,
    pub links: Option<u64>,
    #[serde(borrow)]
    pub linktarget: Option<Text<'a>>,
    #[serde(borrow)]
    pub linktarget_raw: Option<Text<'a>>,
    #[serde(borrow)]
    pub extended_attributes: Option<&'a RawValue>,
    pub device: Option<u64>,
    pub content: Option<Content>,
    pub subtree: Option<Hex>,
}

/// The ids of a file's content. Most files have one.
pub(super) enum Content {
    One(Id),
    Many(Vec<Id>),
}

impl Content {
    fn ids(&self) -> &[Id] {
        match self {
            Content::One(id) => std::slice::from_ref(id),
            Content::Many(ids) => ids,
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let ids = Vec::<Hex>::deserialize(input)?;
        Ok(Content::Many(ids.into_iter().map(|id| id.0).collect()))
    }
}

/// A node of which nothing else is readable.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

struct Parser<'f> {
    records: Vec<Record>,
    arenas: Arenas,
    /// Number of records before it, and the subtree.
    splices: Vec<(u32, Id)>,
    /// Where each class is, and the one that was used last.
    classes: HashMap<Class, u32>,
    last: Option<(Class, u32)>,
    flaw: &'f mut dyn FnMut(Flaw),
}

impl<'f> Parser<'f> {
    /// For a tree of about `length` bytes of JSON.
    fn new(flaw: &'f mut dyn FnMut(Flaw), length: usize) -> Self {
        Parser {
            records: Vec::with_capacity(length / scan::USUAL_NODE),
            arenas: Arenas::default(),
            splices: Vec::new(),
            classes: HashMap::new(),
            last: None,
            flaw,
        }
    }

    /// Reads a tree of any form.
    fn whole(&mut self, json: &str) -> serde_json::Result<()> {
        let mut input = serde_json::Deserializer::from_str(json);
        input.deserialize_map(TreeVisitor(self))?;
        input.end()
    }

    /// Reads what follows the beginning that writers give a tree: its nodes, and whatever comes after them.
    fn nodes(&mut self, json: &str) -> serde_json::Result<()> {
        let (mut nodes, mut raw) = (scan::Nodes::new(json), Raw::default());
        while let Some(node) = nodes.next(&mut raw)? {
            match node {
                scan::Node::Plain => self.take(&raw),
                scan::Node::Other(json) => self.node(json),
            }
        }
        match nodes.rest() {
            "}" => Ok(()),
            rest => self.whole(&format!("{{\"nodes\":null{rest}")),
        }
    }
}

impl Parser<'_> {
    /// A node of any form.
    fn node(&mut self, json: &str) {
        match serde_json::from_str::<Raw>(json) {
            Ok(raw) => self.take(&raw),
            Err(error) => {
                let named = serde_json::from_str(json).map(|Named { name }| name).ok();
                self.report(named.as_ref(), &format!("left out: {error}"));
            }
        }
    }

    /// Adds a node, or tells why not.
    fn take(&mut self, raw: &Raw) {
        let mark = self.arenas.mark();
        if let Err(reason) = self.add(raw) {
            self.arenas.truncate(mark);
            self.report(raw.name.as_ref(), &format!("left out: {reason}"));
        }
    }

    fn add(&mut self, raw: &Raw) -> Result<(), Reason> {
        let name = file_name(raw)?;
        let kind = kind(raw)?;
        if kind == FileType::Dir && matches!(&*name, b"." | b"/") {
            let subtree = raw.subtree.as_ref().ok_or("a directory to be spliced in, without subtree")?;
            let before = u32::try_from(self.records.len()).map_err(|_| "too many entries")?;
            self.splices.push((before, subtree.0));
            return Ok(());
        }
        check_name(&name)?;
        let (at, count) = self.place(raw, kind)?;
        let (xattrs, access_acl_lost) = self.xattrs(raw)?;
        let mtime = self.time(raw.mtime.as_ref(), raw).unwrap_or_default();
        let atime = self.time(raw.atime.as_ref(), raw).unwrap_or(mtime);
        let ctime = self.time(raw.ctime.as_ref(), raw).unwrap_or(mtime);
        let perm = perm(raw, kind);
        let name_len = u8::try_from(name.len()).map_err(|_| "its name is longer than 255 bytes")?;
        let class = self.class(Class {
            device: raw.device_id.unwrap_or(0),
            uid: raw.uid.unwrap_or(0),
            gid: raw.gid.unwrap_or(0),
            links: u32::try_from(raw.links.unwrap_or(1).max(1)).unwrap_or(u32::MAX),
            xattrs,
            perm: if access_acl_lost { perm & !0o070 } else { perm },
            kind,
        })?;
        self.records.push(Record {
            inode: raw.inode.unwrap_or(0),
            size: raw.size.unwrap_or(0).min(i64::MAX as u64),
            name: self.arenas.push_bytes(&name).map_err(too_much)?,
            at,
            count,
            class,
            times: [mtime, atime, ctime].map(Packed::from),
            name_len,
        });
        Ok(())
    }

    /// Where `class` is: nearly always where the one before was.
    fn class(&mut self, class: Class) -> Result<u32, Reason> {
        if let Some((_, at)) = self.last.filter(|(last, _)| *last == class) {
            return Ok(at);
        }
        let at = match self.classes.entry(class) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(self.arenas.push_class(class).map_err(too_much)?),
        };
        self.last = Some((class, at));
        Ok(at)
    }

    /// What the node consists of, as `at` and `count` of its record.
    fn place(&mut self, raw: &Raw, kind: FileType) -> Result<(u32, u32), Reason> {
        let counted = |count: usize| u32::try_from(count).map_err(|_| Reason::from("too long"));
        match kind {
            FileType::File => match &raw.content {
                Some(content) => {
                    let ids = content.ids();
                    Ok((self.arenas.push_ids(ids.iter().copied()).map_err(too_much)?, counted(ids.len())?))
                }
                None => {
                    if raw.size.is_some_and(|size| size > 0) {
                        self.report(
                            raw.name.as_ref(),
                            "the file has a size but no content: it cannot be read",
                        );
                    }
                    Ok((MISSING, 0))
                }
            },
            FileType::Dir => match &raw.subtree {
                Some(subtree) => Ok((self.arenas.push_ids(std::iter::once(subtree.0)).map_err(too_much)?, 1)),
                None => {
                    self.report(raw.name.as_ref(), "the directory has no subtree: it cannot be listed");
                    Ok((MISSING, 0))
                }
            },
            FileType::Symlink => {
                let target = target(raw)?;
                Ok((self.arenas.push_bytes(&target).map_err(too_much)?, counted(target.len())?))
            }
            FileType::Block | FileType::Char => {
                let device = raw.device.unwrap_or(0);
                let device = mode::device(device).ok_or_else(|| format!("no device number: {device}"))?;
                Ok((device, 0))
            }
            FileType::Fifo | FileType::Socket => Ok((MISSING, 0)),
        }
    }

    /// Where its extended attributes begin, and whether an access ACL is missing from them.
    fn xattrs(&mut self, raw: &Raw) -> Result<(u32, bool), Reason> {
        let Some(list) = raw.extended_attributes else { return Ok((MISSING, false)) };
        let attributes = Attributes::read(list, &mut |reason| self.report(raw.name.as_ref(), &reason));
        let at = match attributes.encode() {
            // A label that all nodes carry is kept once.
            Some(bytes) => match self.last {
                Some((last, _)) if self.arenas.bytes_from(last.xattrs).starts_with(&bytes) => last.xattrs,
                _ => self.arenas.push_bytes(&bytes).map_err(too_much)?,
            },
            None => MISSING,
        };
        Ok((at, attributes.access_acl_lost))
    }

    /// A recorded time. One that cannot be read costs itself, not the content that it stands beside.
    fn time(&mut self, text: Option<&Text>, raw: &Raw) -> Option<Time> {
        let parsed = time::parse(&text?.0);
        parsed.map_err(|error| self.report(raw.name.as_ref(), &error.to_string())).ok().map(|(time, _)| time)
    }

    /// Passes on a flaw. Both texts may come from the repository and be of any length.
    fn report(&mut self, name: Option<&Text>, reason: &str) {
        let short = |text: &str| text.chars().take(300).collect();
        (self.flaw)(Flaw { name: short(name.map_or("", |name| &name.0)), reason: short(reason) });
    }
}

fn too_much(error: Error) -> Reason {
    error.to_string().into()
}

fn file_name<'a>(raw: &'a Raw) -> Result<Cow<'a, [u8]>, Reason> {
    let quoted = raw.name.as_ref().ok_or("no name")?.0.as_bytes();
    if !quoted.contains(&b'\\') {
        return Ok(Cow::Borrowed(quoted));
    }
    name::unquote(quoted).map(Cow::Owned).map_err(|e| e.to_string().into())
}

fn check_name(name: &[u8]) -> Result<(), Reason> {
    match name {
        b"" => Err("its name is empty".into()),
        b"." | b".." => Err("not a name".into()),
        _ if name.iter().any(|byte| matches!(byte, b'/' | 0)) => Err("its name holds / or NUL".into()),
        _ if name.len() > 255 => Err("its name is longer than 255 bytes".into()),
        _ => Ok(()),
    }
}

fn kind(raw: &Raw) -> Result<FileType, Reason> {
    Ok(match raw.kind.as_ref().map_or("", |kind| &kind.0) {
        "file" => FileType::File,
        "dir" => FileType::Dir,
        "symlink" => FileType::Symlink,
        "dev" => FileType::Block,
        "chardev" => FileType::Char,
        "fifo" => FileType::Fifo,
        "socket" => FileType::Socket,
        other => return Err(format!("nothing to show for type {other:?}").into()),
    })
}

/// restic leaves out a mode of 0 but never an owner; where both are missing, none was recorded.
fn perm(raw: &Raw, kind: FileType) -> u16 {
    match (raw.mode, raw.uid) {
        (Some(mode), _) => mode::perm(mode),
        (None, Some(_)) => 0,
        (None, None) => mode::default_perm(kind),
    }
}

fn target<'a>(raw: &'a Raw) -> Result<Cow<'a, [u8]>, Reason> {
    let target = match (&raw.linktarget_raw, &raw.linktarget) {
        (Some(base64), _) => Cow::Owned(STANDARD.decode(&*base64.0).map_err(|e| format!("its target: {e}"))?),
        (None, Some(target)) => Cow::Borrowed(target.0.as_bytes()),
        (None, None) => return Err("a symbolic link without target".into()),
    };
    match target.len() {
        _ if target.contains(&0) => Err("its target holds NUL".into()),
        1..=MAX_TARGET => Ok(target),
        length => Err(format!("its target has {length} bytes").into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::NodeRef;
    use super::*;

    fn hex(byte: u8) -> String {
        Id([byte; 32]).to_string()
    }

    fn parse(json: &str) -> (Tree, Vec<Flaw>) {
        let mut flaws = Vec::new();
        let tree = Tree::parse(json.as_bytes(), &mut |flaw| flaws.push(flaw)).unwrap();
        (tree, flaws)
    }

    fn read(nodes: &Value) -> (Tree, Vec<Flaw>) {
        parse(&json!({"nodes": nodes}).to_string())
    }

    /// A node of which `fields` replace or complete what a file has.
    fn node(fields: Value) -> Value {
        let mut node = json!({
            "name": "n", "type": "file", "mode": 0o640, "mtime": "2024-01-16T03:00:00.5+01:00",
            "atime": "2024-01-17T03:00:00Z", "ctime": "2024-01-18T03:00:00Z", "uid": 1000, "gid": 100,
            "user": "bob", "group": "users", "inode": 42, "device_id": 2049, "size": 3, "links": 2,
            "content": [hex(1), hex(2)],
        });
        node.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        node
    }

    /// What `check` finds out about the only node of a tree, which has no flaw.
    fn only<T>(fields: Value, check: impl FnOnce(NodeRef) -> T) -> T {
        let (tree, flaws) = read(&json!([node(fields)]));
        assert_eq!(flaws, []);
        assert_eq!(tree.len(), 1);
        check(tree.entry(0).unwrap())
    }

    /// Asserts that `bad` alone is left out of a tree, and returns the reason.
    fn left_out(bad: &str) -> String {
        let (a, z) = (node(json!({"name": "a"})), node(json!({"name": "z"})));
        let (tree, flaws) = parse(&format!(r#"{{"nodes":[{a},{bad},{z}]}}"#));
        let names: Vec<_> = (0..tree.len()).map(|at| tree.entry(at).unwrap().name()).collect();
        assert_eq!(names, [b"a", b"z"], "{bad}");
        assert!(matches!(&flaws[..], [flaw] if flaw.reason.starts_with("left out: ")), "{bad}: {flaws:?}");
        flaws[0].to_string()
    }

    #[test]
    fn every_field_of_a_file_is_read() {
        only(json!({}), |node| {
            assert_eq!(node.name(), b"n");
            assert_eq!((node.kind(), node.perm()), (FileType::File, 0o640));
            assert_eq!((node.uid(), node.gid(), node.links(), node.rdev()), (1000, 100, 2, 0));
            assert_eq!(node.mtime(), Time { secs: 1_705_370_400, nanos: 500_000_000 });
            assert_eq!(node.atime(), Time { secs: 1_705_460_400, nanos: 0 });
            assert_eq!(node.ctime(), Time { secs: 1_705_546_800, nanos: 0 });
            assert_eq!(node.recorded_size(), 3);
            assert_eq!(node.content(), [Id([1; 32]), Id([2; 32])]);
            assert_eq!((node.subtree(), node.target()), (None, &b""[..]));
            assert_eq!(node.xattrs().count(), 0);
            assert_eq!(node.device_inode(), Some((2049, 42)));
            assert!(!node.is_damaged());
        });
    }

    #[test]
    fn what_is_missing_has_a_default() {
        let (tree, flaws) = read(&json!([
            {"name": "d", "type": "dir", "subtree": hex(7)},
            {"name": "f", "type": "file"},
            {"name": "l", "type": "symlink", "linktarget": "t"},
            {"name": "r", "type": "file", "uid": 0, "gid": 0, "mode": null, "mtime": "1980-01-01T00:00:00Z"},
            {"name": "s", "type": "socket", "links": 0, "content": null, "extended_attributes": null},
        ]));
        assert_eq!(flaws, []);
        let node = |name: &[u8]| tree.entry(tree.find(name).unwrap()).unwrap();
        let perms = [b"d", b"f", b"l", b"r", b"s"].map(|name| node(name).perm());
        // restic leaves out a mode of 0 and always records an owner.
        assert_eq!(perms, [0o755, 0o644, 0o777, 0, 0o644]);
        let file = node(b"f");
        assert_eq!((file.uid(), file.gid(), file.links(), file.recorded_size()), (0, 0, 1, 0));
        assert_eq!([file.mtime(), file.atime(), file.ctime()], [Time::default(); 3]);
        assert_eq!((file.content(), file.device_inode()), (&[][..], None));
        assert_eq!(node(b"r").atime(), Time { secs: 315_532_800, nanos: 0 });
        assert_eq!(node(b"s").links(), 1);
    }

    #[test]
    fn the_type_decides_and_never_the_mode() {
        for (name, fields, kind) in [
            ("dir", json!({"subtree": hex(7)}), FileType::Dir),
            ("file", json!({}), FileType::File),
            ("symlink", json!({"linktarget": "t"}), FileType::Symlink),
            ("dev", json!({"device": 286_327_664}), FileType::Block),
            ("chardev", json!({"device": 259}), FileType::Char),
            ("fifo", json!({}), FileType::Fifo),
            ("socket", json!({}), FileType::Socket),
        ] {
            let mut fields = fields;
            fields["type"] = json!(name);
            for mode in [0o640, 2_147_484_141u32, 134_218_239, 69_206_400] {
                fields["mode"] = json!(mode);
                only(fields.clone(), |node| {
                    assert_eq!((node.kind(), node.perm()), (kind, mode::perm(mode)), "{name}");
                    let rdev = if name == "dev" { 286_327_664 } else { 259 };
                    assert_eq!(node.rdev(), if name.ends_with("dev") { rdev } else { 0 });
                    assert_eq!(node.content().is_empty(), kind != FileType::File);
                });
            }
        }
        for unknown in ["irregular", "", "door", "File"] {
            let reason = left_out(&node(json!({"type": unknown})).to_string());
            assert!(reason.contains(&format!("type {unknown:?}")), "{reason}");
        }
    }

    #[test]
    fn names_are_bytes() {
        for (written, name) in [
            (r"latin\xe9", &b"latin\xe9"[..]),
            (r#"quote\"d"#, b"quote\"d"),
            (r"nbsp\u00a0", "nbsp\u{a0}".as_bytes()),
            (r"\377\376", b"\xff\xfe"),
            ("<&>", b"<&>"),
            ("-rf", b"-rf"),
            ("...", b"..."),
            (&"x".repeat(255), &[b'x'; 255]),
            (&r"\xff".repeat(255), &[255; 255]),
        ] {
            only(json!({"name": written}), |node| assert_eq!(node.name(), name));
        }
    }

    #[test]
    fn a_name_that_cannot_be_shown_costs_its_entry() {
        for (name, why) in [
            ("", "empty"),
            (".", "not a name"),
            ("..", "not a name"),
            ("a/b", "holds /"),
            ("/", "holds /"),
            (r"\x2f", "holds /"),
            (r"nul\x00", "NUL"),
            (r"bad\q", "malformed escape"),
            (r"cut\", "malformed escape"),
            (&"x".repeat(256), "longer than 255"),
            (&"y".repeat(100_000), "longer than 255"),
        ] {
            let reason = left_out(&node(json!({"name": name})).to_string());
            assert!(reason.contains(why) && reason.len() < 1000, "{reason}");
        }
        assert!(left_out(r#"{"type":"file","name":null}"#).contains("no name"));
        assert!(left_out(r#"{"type":"file"}"#).contains("no name"));
    }

    #[test]
    fn a_malformed_field_costs_its_entry() {
        for (field, values) in [
            ("size", vec![json!(-1), json!(1.5), json!("3")]),
            ("mode", vec![json!(1u64 << 32), json!(-1), json!("0644")]),
            ("uid", vec![json!(1u64 << 32), json!(-1)]),
            ("gid", vec![json!(1u64 << 32), json!(0.5)]),
            ("links", vec![json!(-1)]),
            ("inode", vec![json!(-1), json!(1e300)]),
            ("device_id", vec![json!(-1), json!({})]),
            ("mtime", vec![json!(5)]),
            ("content", vec![json!(["ab"]), json!([null]), json!({}), json!([hex(0xab).to_uppercase()])]),
            ("name", vec![json!(5), json!([])]),
            ("type", vec![json!(null), json!(1)]),
        ] {
            for value in values {
                left_out(&node(json!({field: value})).to_string());
            }
        }
        for subtree in [json!("ab"), json!(5)] {
            left_out(&node(json!({"type": "dir", "subtree": subtree})).to_string());
        }
        for device in [json!(1u64 << 32), json!(-1)] {
            left_out(&node(json!({"type": "dev", "device": device})).to_string());
        }
        for json in [
            r#"{"name":"\ud800","type":"file"}"#,
            r#"{"name":"n","type":"file","size":99999999999999999999}"#,
            r#"{"name":"n","type":"file","size":1e999}"#,
            r#"{"name":"n","name":"m","type":"file"}"#,
            "null",
            "5",
            "[]",
            r#""n""#,
        ] {
            left_out(json);
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_costs_that_time() {
        for time in ["yesterday", "", "2024-02-30T00:00:00Z", "2024-01-16T03:00:00", "10000-01-01T00:00:00Z"]
        {
            let (tree, flaws) = read(&json!([node(json!({"mtime": time, "ctime": time}))]));
            let node = tree.entry(0).unwrap();
            assert_eq!((node.mtime(), node.ctime()), (Time::default(), Time::default()), "{time}");
            assert_eq!(node.atime(), Time { secs: 1_705_460_400, nanos: 0 });
            assert_eq!(flaws.len(), 2, "{flaws:?}");
            assert!(flaws[0].reason.contains("not a time"), "{flaws:?}");
        }
    }

    #[test]
    fn numbers_beyond_what_can_be_shown_are_cut() {
        only(json!({"size": u64::MAX, "links": u64::MAX}), |node| {
            assert_eq!((node.recorded_size(), node.links()), (i64::MAX as u64, u32::MAX));
        });
    }

    #[test]
    fn targets_are_bytes_and_the_raw_one_wins() {
        let symlink = |fields: Value| {
            let mut fields = fields;
            fields["type"] = json!("symlink");
            fields
        };
        for (fields, target) in [
            (json!({"linktarget": "../docs"}), &b"../docs"[..]),
            (json!({"linktarget": r"not\x20quoted"}), br"not\x20quoted"),
            (json!({"linktarget": "caf\u{fffd}", "linktarget_raw": STANDARD.encode(b"caf\xe9")}), b"caf\xe9"),
            (json!({"linktarget": "t".repeat(4095)}), &[b't'; 4095]),
        ] {
            only(symlink(fields), |node| {
                assert_eq!((node.target(), node.content()), (target, &[][..]));
            });
        }
        for fields in [
            json!({}),
            json!({"linktarget": ""}),
            json!({"linktarget": "a\0b"}),
            json!({"linktarget": "t".repeat(4096)}),
            json!({"linktarget": "t", "linktarget_raw": "*"}),
        ] {
            left_out(&node(symlink(fields)).to_string());
        }
    }

    #[test]
    fn lost_content_stays_visible_as_damage() {
        let (tree, flaws) = read(&json!([
            {"name": "dir", "type": "dir", "subtree": null},
            {"name": "empty", "type": "file", "content": null},
            {"name": "file", "type": "file", "size": 10, "content": null},
            {"name": "shorter", "type": "file", "size": 10, "content": []},
        ]));
        let damaged: Vec<_> = (0..4).map(|at| tree.entry(at).unwrap().is_damaged()).collect();
        assert_eq!(damaged, [true, false, true, false]);
        assert_eq!(tree.entry(0).unwrap().subtree(), None);
        let names: Vec<_> = flaws.iter().map(|flaw| &*flaw.name).collect();
        assert_eq!(names, ["dir", "file"]);
    }

    #[test]
    fn group_bits_go_with_an_unusable_access_acl() {
        let acl = |value: &str| {
            let fields = json!({
                "mode": 0o674, "extended_attributes": [{"name": "system.posix_acl_access", "value": value}],
            });
            let (tree, flaws) = read(&json!([node(fields)]));
            let node = tree.entry(0).unwrap();
            (node.perm(), node.xattrs().count(), flaws.len())
        };
        let good = "AgAAAAEABgD/////BAAEAP////8gAAQA/////w==";
        assert_eq!(acl(good), (0o674, 1, 0));
        assert_eq!(acl("AgAAAAEABgD/////"), (0o604, 0, 1));
        let (tree, _) = read(&json!([node(json!({"mode": 0o674, "extended_attributes": "junk"}))]));
        assert_eq!(tree.entry(0).unwrap().perm(), 0o604);
    }

    #[test]
    fn extended_attributes_belong_to_their_node() {
        let with = |name: &str, value: &str| {
            node(
                json!({"name": name, "extended_attributes": [{"name": "user.v", "value": STANDARD.encode(value)}]}),
            )
        };
        let (tree, flaws) = read(&json!([with("a", "1"), node(json!({"name": "b"})), with("c", "22")]));
        assert_eq!(flaws, []);
        let values: Vec<Vec<_>> =
            (0..3).map(|at| tree.entry(at).unwrap().xattrs().map(|(_, value)| value).collect()).collect();
        assert_eq!(values, [vec![&b"1"[..]], vec![], vec![b"22"]]);
    }

    #[test]
    fn junk_costs_the_tree_and_unknown_keys_nothing() {
        let good = json!({"before": {"nodes": 5}, "nodes": [node(json!({"future": [{}]}))], "after": []});
        let (tree, flaws) = parse(&format!("{good}\n"));
        assert_eq!((tree.len(), flaws.len()), (1, 0));
        for empty in [r#"{"nodes":null}"#, "{}", r#"{"nodes":[]}"#] {
            assert!(parse(empty).0.is_empty());
        }
        let good = good.to_string();
        let cut = (0..good.len()).step_by(7).map(|length| good[..length].to_owned());
        let junk = ["null", "[]", "5", "{]", r#"{"nodes":5}"#, r#"{"nodes":{}}"#, "{} {}"];
        for junk in cut.chain(junk.map(str::to_owned)) {
            let error = Tree::parse(junk.as_bytes(), &mut |_| ()).err().unwrap();
            assert_eq!(error.kind(), Kind::Corrupt, "{junk}");
        }
        let nested = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&nested).0.is_empty());
        left_out(&nested);
    }

    #[test]
    fn bytes_that_are_no_utf_8_read_as_replacement_characters_as_in_go() {
        let json =
            b"{\"nodes\":[{\"name\":\"caf\xe9\",\"type\":\"file\"},{\"name\":\"z\",\"type\":\"file\"}]}";
        let tree = Tree::parse(json, &mut |flaw| panic!("{flaw}")).unwrap();
        assert_eq!(tree.entry(0).unwrap().name(), "caf\u{fffd}".as_bytes());
        assert_eq!(tree.find(b"z"), Some(1));
    }

    #[test]
    fn digests_are_equal_for_nodes_that_nobody_could_tell_apart() {
        let digest = |fields: Value| only(fields, |node| node.digest());
        for same in [
            json!({}),
            json!({"name": "other"}),
            json!({"inode": 43, "device_id": 1, "user": "eve", "future": 1}),
            json!({"mtime": "2024-01-16T02:00:00.500Z"}),
            json!({"extended_attributes": []}),
        ] {
            assert_eq!(digest(json!({})), digest(same.clone()), "{same}");
        }
        let attribute = |name: &str, value: &str| json!({"name": name, "value": STANDARD.encode(value)});
        let different = [
            json!({}),
            json!({"mode": 0o600}),
            json!({"uid": 1}),
            json!({"gid": 1}),
            json!({"links": 1}),
            json!({"size": 4}),
            json!({"mtime": "2024-01-16T03:00:00.6+01:00"}),
            json!({"atime": "2024-01-17T03:00:01Z"}),
            json!({"ctime": "2024-01-18T03:00:01Z"}),
            json!({"content": []}),
            json!({"content": [hex(1)]}),
            json!({"content": [hex(2), hex(1)]}),
            json!({"type": "fifo"}),
            json!({"extended_attributes": [attribute("user.a", "b")]}),
            json!({"extended_attributes": [attribute("user.ab", "")]}),
            json!({"extended_attributes": [attribute("user.a", ""), attribute("user.b", "")]}),
            json!({"type": "symlink", "linktarget": "a"}),
            json!({"type": "symlink", "linktarget": "b"}),
            json!({"type": "chardev", "device": 259}),
            json!({"type": "chardev", "device": 260}),
            json!({"type": "dir", "subtree": hex(1)}),
            json!({"type": "dir", "subtree": hex(2)}),
        ];
        let mut digests: Vec<_> = different.iter().map(|fields| digest(fields.clone())).collect();
        // Both show no bytes, but one of them is damaged.
        for content in [json!([]), json!(null)] {
            let (tree, _) = read(&json!([node(json!({"content": content, "size": 9}))]));
            digests.push(tree.entry(0).unwrap().digest());
        }
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(junk in r#"(\{"nodes":\[)?\PC{0,60}"#) {
            let _ = Tree::parse(junk.as_bytes(), &mut |_| ());
        }

        /// Damages one byte of a tree: whatever is still shown must be showable.
        #[test]
        fn what_is_shown_can_be_handed_to_the_kernel(at: prop::sample::Index, byte: u8) {
            let nodes: Vec<_> = ["dir", "file", "symlink", "chardev", "fifo"]
                .iter()
                .map(|kind| node(json!({
                    "name": format!("{kind}\\n"), "type": kind, "subtree": hex(9), "linktarget": "t", "device": 259,
                    "extended_attributes": [{"name": "user.a", "value": "AA=="}],
                })))
                .collect();
            let mut json = json!({"nodes": nodes}).to_string().into_bytes();
            let at = at.index(json.len());
            json[at] = byte;
            if let Ok(tree) = Tree::parse(&json, &mut |_| ()) {
                for at in 0..tree.len() {
                    let node = tree.entry(at).unwrap();
                    prop_assert_eq!(tree.find(node.name()), Some(at));
                    prop_assert_eq!(check_name(node.name()), Ok(()));
                    prop_assert!(node.perm() <= 0o7777 && node.links() >= 1 && node.mtime().nanos < 1_000_000_000);
                    let target = node.target();
                    prop_assert_eq!(!target.is_empty(), node.kind() == FileType::Symlink);
                    prop_assert!(node.xattrs().all(|(name, _)| !name.is_empty()));
                }
            }
        }
    }
}
