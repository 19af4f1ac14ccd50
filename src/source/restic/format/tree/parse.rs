//! From JSON to records. Nodes are cut out of the stream one by one, so that a malformed one costs only itself.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::record::{Arenas, MISSING, Record};
use super::xattr::Attributes;
use super::{Flaw, Tree};
use crate::error::{self, Error, Kind};
use crate::source::chunked::Id;
use crate::source::restic::format::{mode, name, time};
use crate::tree::{FileType, Time};

/// The largest tree blob that is read, in bytes of JSON.
pub const MAX_JSON: usize = 512 << 20;

/// The kernel takes no longer targets.
const MAX_TARGET: usize = 4095;

/// Why a node is left out.
type Reason = Cow<'static, str>;

impl Tree {
    /// Reads a tree blob. What is left out or not as it should be is passed to `flaw`. Errors: `Corrupt` when it is not
    /// the JSON of a tree, `Unsupported` when it is larger than [`MAX_JSON`].
    pub fn parse(json: &[u8], flaw: &mut dyn FnMut(Flaw)) -> error::Result<Tree> {
        if json.len() > MAX_JSON {
            return Err(Error::new(Kind::Unsupported, format!("a tree of {} bytes", json.len())));
        }
        // Go reads a malformed byte as U+FFFD, so such a tree is readable to restic.
        let text = String::from_utf8_lossy(json);
        let mut parser = Parser { records: Vec::new(), arenas: Arenas::default(), splices: Vec::new(), flaw };
        let mut input = serde_json::Deserializer::from_str(&text);
        let parsed = input.deserialize_map(TreeVisitor(&mut parser)).and_then(|()| input.end());
        parsed.map_err(|e| Error::caused_by(Kind::Corrupt, "malformed tree", e))?;
        let Parser { records, arenas, splices, flaw } = parser;
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
struct Hex(Id);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Text::deserialize(input)?.0.parse().map(Hex).map_err(de::Error::custom)
    }
}

/// A node as recorded. Other fields are skipped.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    mode: Option<u32>,
    #[serde(borrow)]
    mtime: Option<Text<'a>>,
    #[serde(borrow)]
    atime: Option<Text<'a>>,
    #[serde(borrow)]
    ctime: Option<Text<'a>>,
    uid: Option<u32>,
    gid: Option<u32>,
    inode: Option<u64>,
    device_id: Option<u64>,
    size: Option<u64>,
    links: Option<u32>,
    #[serde(borrow)]
    linktarget: Option<Text<'a>>,
    #[serde(borrow)]
    linktarget_raw: Option<Text<'a>>,
    #[serde(borrow)]
    extended_attributes: Option<&'a RawValue>,
    device: Option<u64>,
    content: Option<Vec<Hex>>,
    subtree: Option<Hex>,
}

struct Parser<'f> {
    records: Vec<Record>,
    arenas: Arenas,
    /// Number of records before it, and the subtree.
    splices: Vec<(u32, Id)>,
    flaw: &'f mut dyn FnMut(Flaw),
}

impl Parser<'_> {
    fn node(&mut self, json: &str) {
        let mark = self.arenas.mark();
        let added = serde_json::from_str(json)
            .map_err(|e| Reason::from(e.to_string()))
            .and_then(|raw: Raw| self.add(&raw, json));
        if let Err(reason) = added {
            self.arenas.truncate(mark);
            self.report(json, &format!("left out: {reason}"));
        }
    }

    fn add(&mut self, raw: &Raw, json: &str) -> Result<(), Reason> {
        let name = file_name(raw)?;
        let kind = kind(raw)?;
        if kind == FileType::Dir && matches!(&*name, b"." | b"/") {
            let subtree = raw.subtree.as_ref().ok_or("a directory to be spliced in, without subtree")?;
            let before = u32::try_from(self.records.len()).map_err(|_| "too many entries")?;
            self.splices.push((before, subtree.0));
            return Ok(());
        }
        check_name(&name)?;
        let (at, count) = self.place(raw, kind, json)?;
        let (xattrs, access_acl_lost) = self.xattrs(raw, json)?;
        let mtime = parse_time(raw.mtime.as_ref())?.unwrap_or_default();
        let atime = parse_time(raw.atime.as_ref())?.unwrap_or(mtime);
        let ctime = parse_time(raw.ctime.as_ref())?.unwrap_or(mtime);
        let perm = perm(raw, kind);
        let mut record = Record {
            digest: [0; 2],
            inode: raw.inode.unwrap_or(0),
            size: raw.size.unwrap_or(0),
            secs: [mtime.secs, atime.secs, ctime.secs],
            nanos: [mtime.nanos, atime.nanos, ctime.nanos],
            name: self.arenas.push_bytes(&name).map_err(too_much)?,
            uid: raw.uid.unwrap_or(0),
            gid: raw.gid.unwrap_or(0),
            links: raw.links.unwrap_or(1).max(1),
            at,
            count,
            xattrs,
            device: self.arenas.push_device(raw.device_id.unwrap_or(0)).map_err(too_much)?,
            perm: if access_acl_lost { perm & !0o070 } else { perm },
            name_len: u8::try_from(name.len()).map_err(|_| "its name is longer than 255 bytes")?,
            kind,
        };
        if i64::try_from(record.size).is_err() {
            return Err(format!("its size is {}", record.size).into());
        }
        record.digest = record.digest_of(&self.arenas);
        self.records.push(record);
        Ok(())
    }

    /// What the node consists of, as `at` and `count` of its record.
    fn place(&mut self, raw: &Raw, kind: FileType, json: &str) -> Result<(u32, u32), Reason> {
        let counted = |count: usize| u32::try_from(count).map_err(|_| Reason::from("too long"));
        match kind {
            FileType::File => match &raw.content {
                Some(content) => {
                    let ids = content.iter().map(|id| id.0);
                    Ok((self.arenas.push_ids(ids).map_err(too_much)?, counted(content.len())?))
                }
                None => {
                    if raw.size.is_some_and(|size| size > 0) {
                        self.report(json, "the file has a size but no content: it cannot be read");
                    }
                    Ok((MISSING, 0))
                }
            },
            FileType::Dir => match &raw.subtree {
                Some(subtree) => Ok((self.arenas.push_ids(std::iter::once(subtree.0)).map_err(too_much)?, 1)),
                None => {
                    self.report(json, "the directory has no subtree: it cannot be listed");
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
    fn xattrs(&mut self, raw: &Raw, json: &str) -> Result<(u32, bool), Reason> {
        let Some(list) = raw.extended_attributes else { return Ok((MISSING, false)) };
        let attributes = Attributes::read(list, &mut |reason| self.report(json, &reason));
        let at = match attributes.encode() {
            Some(bytes) => self.arenas.push_bytes(&bytes).map_err(too_much)?,
            None => MISSING,
        };
        Ok((at, attributes.access_acl_lost))
    }

    /// Passes on a flaw of the node in `json`. Both texts may come from the repository and be of any length.
    fn report(&mut self, json: &str, reason: &str) {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            name: Text<'a>,
        }
        let named = serde_json::from_str(json).map(|Named { name }| name.0).unwrap_or_default();
        let short = |text: &str| text.chars().take(300).collect();
        (self.flaw)(Flaw { name: short(&named), reason: short(reason) });
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

fn parse_time(text: Option<&Text>) -> Result<Option<Time>, Reason> {
    let parsed = text.map(|text| time::parse(&text.0)).transpose();
    Ok(parsed.map_err(|e| e.to_string())?.map(|(time, _)| time))
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
