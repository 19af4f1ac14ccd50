//! Directories of a bucket as nodes of the shown tree. A handle is light: a prefix at a moment.

use std::sync::Arc;

use bytes::Bytes;

use super::archive::Archive;
use super::file::ObjectFile;
use super::labels::{Attributes, shown};
use super::moments::time;
use super::parsed::{Entry, Parsed};
use super::pieces::{Object, PIECE};
use super::table::Table;
use crate::error::Error;
use crate::source::chunked::{Id, hash};
use crate::tree::{
    BEGINNING, Content, Cookie, Dir, Entry as Listed, FileType, Identity, Listing, Meta, Node, Sink, Step,
    Time, Validity, Xattrs,
};

// What is announced of a file is its first piece.
const _: () = assert!(PIECE >= BEGINNING);

/// Files worth announcing at a time: enough for all requests that may be under way.
const STRIDE: u64 = 1 << 20;

/// A bucket at a moment, as it was listed.
pub(super) struct View {
    pub archive: Arc<Archive>,
    pub table: Arc<Table>,
    /// `None` for what there is now.
    pub moment: Option<i64>,
    /// When the snapshot was taken: what directories show that have no object.
    pub taken: Time,
}

/// A directory of it.
#[derive(Clone)]
pub(super) struct ObjectDir {
    pub view: Arc<View>,
    /// Ends in a slash, or is empty for the root.
    pub prefix: Arc<str>,
}

impl ObjectDir {
    /// What its entries are kept under.
    pub(super) fn key(&self) -> Id {
        let moment = self.view.moment.map_or([0; 9], |moment| {
            let [a, b, c, d, e, f, g, h] = moment.to_le_bytes();
            [1, a, b, c, d, e, f, g, h]
        });
        Id::of(&[b"directory", &self.view.table.digest.to_le_bytes(), &moment, self.prefix.as_bytes()])
    }

    fn parsed(&self) -> Step<Arc<Parsed>> {
        self.view.archive.directory(self)
    }

    /// The node of entry number `at`.
    fn node(&self, parsed: &Arc<Parsed>, at: usize) -> Option<Node> {
        let entry = parsed.get(at)?;
        let meta = self.meta(&entry);
        let content = match meta.kind {
            FileType::Dir => Content::Dir(Arc::new(ObjectDir {
                view: Arc::clone(&self.view),
                prefix: format!("{}{}/", self.prefix, entry.name).into(),
            })),
            FileType::File => {
                let archive = &self.view.archive;
                Content::File(Arc::new(ObjectFile {
                    object: self.object(&entry),
                    pieces: Arc::clone(&archive.pieces),
                    title: Arc::clone(&archive.title),
                }))
            }
            FileType::Symlink => Content::Symlink(target(&entry)),
            _ => Content::Special,
        };
        let xattrs = || Arc::new(EntryXattrs { parsed: Arc::clone(parsed), at }) as Arc<dyn Xattrs>;
        let is_file = meta.kind == FileType::File;
        Some(Node { meta, content, xattrs: is_file.then(xattrs) })
    }

    fn object(&self, entry: &Entry<'_>) -> Arc<Object> {
        Arc::new(Object::new(entry.pinned(&self.prefix), entry.size))
    }

    fn meta(&self, entry: &Entry<'_>) -> Meta {
        let kind = kind(entry);
        let changed = if entry.is_object { time(entry.changed) } else { self.view.taken };
        let known = entry.attributes;
        let (perm, size) = match kind {
            FileType::Dir => (0o755, 0),
            FileType::Symlink => (0o777, target(entry).len() as u64),
            FileType::File => (0o644, entry.size),
            _ => (0o644, 0),
        };
        let mode = known.and_then(|known| known.mode).map(|mode| mode & 0o7777);
        let mtime = known.and_then(|known| known.mtime).map_or(changed, shown);
        Meta {
            kind,
            perm: mode.and_then(|mode| u16::try_from(mode).ok()).unwrap_or(perm),
            uid: known.and_then(|known| known.uid).unwrap_or(0),
            gid: known.and_then(|known| known.gid).unwrap_or(0),
            size,
            blocks: if kind == FileType::File { size.div_ceil(512) } else { 0 },
            mtime,
            atime: known.and_then(|known| known.atime).map_or(mtime, shown),
            ctime: known.and_then(|known| known.ctime).map_or(changed, shown),
            identity: self.identity(entry, kind),
            ..Meta::directory(changed, Validity::Forever)
        }
    }

    /// An object is one file in all snapshots that show it at this place.
    fn identity(&self, entry: &Entry<'_>, kind: FileType) -> Identity {
        if kind != FileType::File {
            return Identity::Path;
        }
        let archive = self.view.archive.id().as_bytes();
        let bytes = [entry.size.to_le_bytes(), entry.changed.to_le_bytes()].concat();
        let (prefix, name) = (self.prefix.as_bytes(), entry.name.as_bytes());
        let parts =
            [b"object", archive, prefix, name, entry.version.as_bytes(), entry.etag.as_bytes(), &bytes];
        Identity::Key(hash(&parts))
    }
}

/// The type of an entry. What its writer called a directory is one only where there is a name for what is below it.
fn kind(entry: &Entry<'_>) -> FileType {
    if entry.is_dir {
        return FileType::Dir;
    }
    match entry.attributes.and_then(Attributes::kind) {
        Some(FileType::Symlink) if target(entry).is_empty() => FileType::File,
        Some(kind @ (FileType::Symlink | FileType::Fifo | FileType::Socket)) => kind,
        _ => FileType::File,
    }
}

fn target(entry: &Entry<'_>) -> Bytes {
    let target = entry.attributes.and_then(|known| known.target.as_deref());
    Bytes::copy_from_slice(target.unwrap_or_default())
}

impl Dir for ObjectDir {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        let node = |dir: &ObjectDir, parsed: &Arc<Parsed>, name: &[u8]| {
            parsed.find(name).and_then(|at| dir.node(parsed, at))
        };
        match self.parsed() {
            Step::Ready(parsed) => Step::Ready(parsed.map(|parsed| node(self, &parsed, name))),
            Step::Wait(wait) => {
                let (dir, name) = (self.clone(), name.to_vec());
                Step::wait(async move { Ok(node(&dir, &wait.await?, &name)) })
            }
        }
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        let dir = self.clone();
        self.parsed().map(move |parsed| Ok(Arc::new(Entries { dir, parsed }) as Arc<dyn Listing>))
    }
}

/// The entries of a directory. An entry's cookie is its number, which never changes at its moment.
struct Entries {
    dir: ObjectDir,
    parsed: Arc<Parsed>,
}

impl Listing for Entries {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        for at in usize::try_from(from).unwrap_or(usize::MAX)..self.parsed.len() {
            let Some(entry) = self.parsed.get(at) else { continue };
            let meta = self.dir.meta(&entry);
            let listed = Listed {
                at: at as u64,
                next: at as u64 + 1,
                name: entry.name.as_bytes(),
                kind: meta.kind,
                identity: meta.identity,
                meta: Some(meta),
            };
            if sink.entry(&listed).is_break() {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        self.dir.node(&self.parsed, usize::try_from(at).ok()?)
    }

    fn will_read(&self, files: &[Cookie]) {
        for at in files.iter().filter_map(|at| usize::try_from(*at).ok()) {
            if let Some(entry) = self.parsed.get(at).filter(|entry| !entry.is_dir && entry.size > 0)
                && self.dir.view.archive.pieces.announce(&self.dir.object(&entry), 0..1) == 0
            {
                return;
            }
        }
    }

    fn stride(&self) -> u64 {
        STRIDE
    }
}

/// What the bucket knows of a file beside its attributes; by name only, so that no copy takes it along.
struct EntryXattrs {
    parsed: Arc<Parsed>,
    at: usize,
}

impl Xattrs for EntryXattrs {
    fn get(&self, name: &[u8]) -> Step<Option<Bytes>> {
        let value = self.parsed.get(self.at).and_then(|entry| {
            let value = match name {
                b"user.backupfs.etag" => entry.etag.trim_matches('"'),
                b"user.backupfs.version" => entry.version,
                b"user.backupfs.md5" => entry.attributes?.md5.as_deref()?,
                _ => "",
            };
            (!value.is_empty()).then(|| Bytes::copy_from_slice(value.as_bytes()))
        });
        Step::ok(value)
    }

    fn names(&self) -> Step<Vec<Bytes>> {
        Step::ok(Vec::new())
    }
}

impl ObjectDir {
    /// Tells where an error is.
    pub(super) fn explained(&self, error: Error) -> Error {
        error.context(format!("{}: {:?}", self.view.archive.title, &*self.prefix))
    }
}
