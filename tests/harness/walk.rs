//! Walks a tree through the seams alone, holding every node to the contract of `tree` on the way.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use backupfs::error::{Error, Kind};
use backupfs::tree::{Content, Cookie, Dir, Entry, File, FileType, Identity, Listing, Meta, Node, Xattrs};
use bytes::Bytes;

/// A path below where the walk began: names joined by `/`.
pub type Path = Vec<u8>;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub meta: Meta,
    /// Content of a file, target of a symbolic link; what kept it (or a directory's listing) from being read.
    pub content: Result<Bytes, Kind>,
    /// Extended attributes, or what kept them from being read.
    pub xattrs: Result<BTreeMap<Vec<u8>, Bytes>, Kind>,
}

/// Everything below a node; the node itself is at the empty path.
pub type Walked = BTreeMap<Path, Found>;

/// Walks everything below `node`. Panics when something breaks the contract; damage is recorded.
pub async fn walk(node: Node) -> Walked {
    let mut walked = Walked::new();
    let mut open = vec![(Path::new(), node)];
    while let Some((path, node)) = open.pop() {
        let shown = String::from_utf8_lossy(&path).into_owned();
        let content = match &node.content {
            Content::Dir(dir) => directory(&shown, &**dir).await.map(|entries| {
                open.extend(entries.into_iter().map(|(name, node)| (join(&path, &name), node)));
                Bytes::new()
            }),
            Content::File(file) => regular(&shown, &**file, &node.meta).await,
            Content::Symlink(target) => {
                assert_eq!(target.len() as u64, node.meta.size, "{shown}: size of a link");
                Ok(target.clone())
            }
            Content::Special => Ok(Bytes::new()),
        };
        let xattrs = attributes(&shown, &node).await.map_err(|e| e.kind());
        check_meta(&shown, &node);
        // A source may say that there could be some as long as nobody has looked; then it knows.
        let has_xattrs = xattrs.as_ref().map_or(node.meta.has_xattrs, |xattrs| !xattrs.is_empty());
        let meta = Meta { has_xattrs, ..node.meta };
        let content = content.map_err(|error| {
            let honest = !matches!(error.kind(), Kind::NotFound | Kind::Internal);
            assert!(honest, "{shown}: damage must not look like absence or a bug: {error:?}");
            error.kind()
        });
        walked.insert(path, Found { meta, content, xattrs });
    }
    check_identities(&walked);
    walked
}

/// How many entries there are below `node`. Opens no file.
pub async fn count(node: Node) -> usize {
    let (mut open, mut count) = (vec![node], 0);
    while let Some(node) = open.pop() {
        if let Content::Dir(dir) = &node.content {
            let entries = directory("", &**dir).await.unwrap();
            count += entries.len();
            open.extend(entries.into_iter().map(|(_, node)| node));
        }
    }
    count
}

fn join(path: &[u8], name: &[u8]) -> Path {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn check_meta(path: &str, node: &Node) {
    let meta = &node.meta;
    let kind = match &node.content {
        Content::Dir(_) => meta.kind == FileType::Dir,
        Content::File(_) => meta.kind == FileType::File,
        Content::Symlink(_) => meta.kind == FileType::Symlink,
        Content::Special => {
            matches!(meta.kind, FileType::Block | FileType::Char | FileType::Fifo | FileType::Socket)
        }
    };
    assert!(kind, "{path}: {:?} with another content", meta.kind);
    assert!(meta.nlink >= 1, "{path}: no links");
    assert!(meta.perm <= 0o7777, "{path}: mode {:o}", meta.perm);
    assert!(meta.size <= i64::MAX as u64, "{path}: size {}", meta.size);
    for time in [meta.mtime, meta.atime, meta.ctime] {
        assert!(time.nanos < 1_000_000_000, "{path}: {time:?}");
    }
}

/// What shares an inode must be one file.
fn check_identities(walked: &Walked) {
    let mut keys: BTreeMap<u128, (&Path, &Found)> = BTreeMap::new();
    for (path, found) in walked {
        if let Identity::Key(key) = found.meta.identity {
            let (first, same) = keys.entry(key).or_insert((path, found));
            let (first, path) = (String::from_utf8_lossy(first), String::from_utf8_lossy(path));
            assert!(same.content == found.content, "{first} and {path} share an inode and differ");
            assert_eq!(same.meta, found.meta, "{first} and {path} share an inode");
        }
    }
}

/// The entries of a directory, after a look at everything that a listing promises.
async fn directory(path: &str, dir: &dyn Dir) -> Result<Vec<(Vec<u8>, Node)>, Error> {
    let listing = dir.listing().resolve().await?;
    let entries = visited(&*listing, 0);
    check_order(path, &entries);
    check_resuming(path, &*listing, &entries);
    let again = dir.listing().resolve().await?;
    assert!(visited(&*again, 0) == entries, "{path}: two listings differ");

    let mut nodes = Vec::with_capacity(entries.len());
    for listed in entries {
        let name = String::from_utf8_lossy(&listed.name).into_owned();
        let node = dir.lookup(&listed.name).resolve().await?;
        let node = node.unwrap_or_else(|| panic!("{path}/{name}: listed and not found"));
        assert_eq!(node.meta.kind, listed.kind, "{path}/{name}");
        assert_eq!(node.meta.identity, listed.identity, "{path}/{name}");
        assert_eq!(listed.meta.unwrap_or(node.meta), node.meta, "{path}/{name}");
        if let Some(direct) = listing.node(listed.at) {
            assert_eq!(direct.meta, node.meta, "{path}/{name}");
        } else {
            assert!(listed.meta.is_none(), "{path}/{name}: attributes and no node");
        }
        nodes.push((listed.name, node));
    }
    for absent in [&b"no such name"[..], b"\xff", b"a/b", &[b'x'; 256]] {
        let listed = nodes.iter().any(|(name, _)| name == absent);
        assert_eq!(dir.lookup(absent).resolve().await?.is_some(), listed, "{path}/{absent:?}");
    }
    Ok(nodes)
}

#[derive(Clone, Debug, PartialEq)]
struct Listed {
    at: Cookie,
    next: Cookie,
    name: Vec<u8>,
    kind: FileType,
    identity: Identity,
    meta: Option<Meta>,
}

fn visited(listing: &dyn Listing, from: Cookie) -> Vec<Listed> {
    let mut entries = Vec::new();
    listing.visit(from, &mut |entry: &Entry<'_>| {
        let Entry { at, next, name, kind, identity, meta } = *entry;
        entries.push(Listed { at, next, name: name.to_vec(), kind, identity, meta });
        ControlFlow::Continue(())
    });
    entries
}

fn check_order(path: &str, entries: &[Listed]) {
    let mut names = std::collections::HashSet::new();
    for entry in entries {
        let name = &entry.name[..];
        let legal = !matches!(name, b"" | b"." | b"..") && name.len() <= 255;
        assert!(legal && !name.contains(&b'/') && !name.contains(&0), "{path}: {name:?} is listed");
        assert!(names.insert(name), "{path}: {name:?} is listed twice");
        assert!(entry.next > entry.at, "{path}: {name:?} leads nowhere");
    }
    let sorted = entries.is_sorted_by(|one, other| one.next <= other.at);
    assert!(sorted, "{path}: positions do not grow");
}

/// A visit may stop and go on anywhere.
fn check_resuming(path: &str, listing: &dyn Listing, entries: &[Listed]) {
    let step = (entries.len() / 7).max(1);
    for (nth, entry) in entries.iter().enumerate().step_by(step) {
        assert!(visited(listing, entry.at) == entries[nth..], "{path}: resuming at entry {nth}");
        assert!(visited(listing, entry.next) == entries[nth + 1..], "{path}: resuming after entry {nth}");
        let mut seen = 0;
        listing.visit(0, &mut |_: &Entry<'_>| {
            seen += 1;
            if seen > nth { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(seen, nth + 1, "{path}: a visit that was broken off went on");
    }
}

/// The content of a file, after reads at every kind of edge.
async fn regular(path: &str, file: &dyn File, meta: &Meta) -> Result<Bytes, Error> {
    const PIECE: usize = 1 << 20;
    let reader = file.open().resolve().await?;
    let mut content = Vec::new();
    while (content.len() as u64) < meta.size {
        let piece = reader.read_at(content.len() as u64, PIECE).resolve().await?;
        let left = meta.size - content.len() as u64;
        assert_eq!(piece.len() as u64, left.min(PIECE as u64), "{path}: a short read at {}", content.len());
        content.extend(piece);
    }
    let size = content.len();
    for offset in [0, 1, size / 3, size / 2, size.saturating_sub(1), size, size + 1, size + PIECE] {
        for length in [0, 1, 511, 4096, 70_000] {
            let piece = reader.read_at(offset as u64, length).resolve().await?;
            let start = offset.min(size);
            let expected = &content[start..(start + length).min(size)];
            assert!(piece == expected, "{path}: {length} bytes at {offset} of {size}");
        }
    }
    assert!(reader.read_at(u64::MAX, 10).resolve().await?.is_empty(), "{path}: something at the end of time");
    let data = extents(path, &*reader, &content).await?;
    assert!(meta.blocks <= (size as u64).div_ceil(512), "{path}: {} blocks", meta.blocks);
    assert!(meta.blocks * 512 <= data + 1023, "{path}: {} blocks for {data} bytes of data", meta.blocks);
    Ok(content.into())
}

/// How many bytes lie outside of holes; holes must be zeros.
async fn extents(path: &str, reader: &dyn backupfs::tree::Reader, content: &[u8]) -> Result<u64, Error> {
    let size = content.len() as u64;
    let (mut at, mut data) = (0, 0);
    while at < size {
        let start = reader.next_data(at).resolve().await?.unwrap_or(size);
        assert!((at..=size).contains(&start), "{path}: data after {at} begins at {start}");
        assert!(
            content[at as usize..start as usize].iter().all(|&byte| byte == 0),
            "{path}: a hole with data"
        );
        if start == size {
            break;
        }
        let end = reader.next_hole(start).resolve().await?;
        assert!(start < end && end <= size, "{path}: data at {start} ends at {end}");
        data += end - start;
        at = end;
    }
    Ok(data)
}

async fn attributes(path: &str, node: &Node) -> Result<BTreeMap<Vec<u8>, Bytes>, Error> {
    let Some(xattrs) = &node.xattrs else {
        assert!(!node.meta.has_xattrs, "{path}: promises attributes");
        return Ok(BTreeMap::new());
    };
    let found = named(path, xattrs).await?;
    assert!(node.meta.has_xattrs || found.is_empty(), "{path}: denies its attributes");
    assert_eq!(xattrs.get(b"user.no such attribute").resolve().await?, None, "{path}");
    Ok(found)
}

async fn named(path: &str, xattrs: &Arc<dyn Xattrs>) -> Result<BTreeMap<Vec<u8>, Bytes>, Error> {
    let mut found = BTreeMap::new();
    for name in xattrs.names().resolve().await? {
        assert!((1..=255).contains(&name.len()) && !name.contains(&0), "{path}: attribute {name:?}");
        let value = xattrs.get(&name).resolve().await?;
        let value = value.unwrap_or_else(|| panic!("{path}: {name:?} is listed and not found"));
        assert!(value.len() <= 65_536, "{path}: {name:?} has {} bytes", value.len());
        assert!(found.insert(name.to_vec(), value).is_none(), "{path}: {name:?} is listed twice");
    }
    Ok(found)
}
