//! What a mount knows while it is served, and what can be asked of it: every question is a [`Step`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fuser::FileAttr;

use super::directory::{OpenDir, Pins, directory};
use super::failures::Failures;
use super::forgotten::{Forgotten, How};
use super::inodes::{Inodes, Known, Lineage, Origin, Place, ROOT, resolve};
use super::owner::Owners;
use super::passthrough::Passthrough;
use super::readers::{Handles, OpenFile, Readers};
use super::rights::{Registered, Rights};
use super::trails::{DEEPEST, Trail};
use super::xattrs::Rules;
use super::{Options, attr};
use crate::error::{Error, Kind, Result};
use crate::tree::{Content, Entry, FileType, Listing, Meta, Node, Step};

/// The longest target that the kernel can return.
const LINK_LIMIT: usize = 4095;

/// A mount being served.
pub(super) struct State {
    pub options: Options,
    pub rules: Rules,
    pub inodes: Inodes,
    pub files: Handles<OpenFile>,
    pub dirs: Handles<OpenDir>,
    pub pins: Pins,
    /// Files that the kernel reads by itself.
    pub passthrough: Passthrough<Registered>,
    pub rights: Arc<dyn Rights>,
    /// Opens need no message: agreed with the kernel.
    pub zero_message_opens: AtomicBool,
    readers: Readers,
}

/// The answer to a look-up.
pub(super) struct Found {
    /// How long the answer may be kept.
    pub ttl: Duration,
    /// The node, unless there is none of that name.
    pub child: Option<Child>,
}

/// A node that was looked up.
pub(super) struct Child {
    pub identity: u128,
    pub place: Place,
    /// How it was found, where that is kept.
    pub trail: Option<Trail>,
    /// Its attributes, still without a number.
    pub attr: FileAttr,
    pub attr_ttl: Duration,
}

impl State {
    /// A mount of `root`.
    pub fn new(root: Node, options: Options, failures: Failures, rights: Arc<dyn Rights>) -> Self {
        let owners =
            Arc::new(Owners::new(options.owner, options.idmap.clone()).fixed(options.uid, options.gid));
        State {
            rules: Rules::new(options.xattrs, options.acls, owners, failures),
            options,
            inodes: Inodes::new(root),
            files: Handles::new(),
            dirs: Handles::new(),
            pins: Pins::default(),
            passthrough: Passthrough::off(),
            rights,
            zero_message_opens: AtomicBool::new(false),
            readers: Readers::new(),
        }
    }

    /// Looks `name` up in the directory `parent`.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Step<Found> {
        let known = match self.known(parent) {
            Ok(known) => known,
            Err(error) => return Step::err(error),
        };
        let (rules, name) = (self.rules.clone(), name.to_vec());
        let (lineage, keeps_trails) = (self.lineage(parent, &known), self.keeps_trails());
        known.node().then(move |node| {
            let ttl = attr::ttl(node.meta.validity);
            let dir = match directory(&node) {
                Ok(dir) => dir,
                Err(error) => return Step::err(error),
            };
            dir.lookup(&name).then(move |child| {
                let Some(child) = child else { return Step::ok(Found { ttl, child: None }) };
                let identity = resolve(child.meta.identity, child.meta.kind, lineage, &name);
                let trail = keeps_trails.then(|| Trail::to(parent, &name, &child));
                rules.meta(&child).map(move |meta| {
                    rules.shown(&meta);
                    let attr_ttl = attr::ttl(meta.validity);
                    let attr = attr::shown(&meta, 0, &rules.owners)?;
                    let origin = Arc::new(Origin::Held { parent, name: Some(name.into()), node: child });
                    let place = Place { origin, at: 0, plain: plain(&meta) };
                    let child = Child { identity, place, trail, attr, attr_ttl };
                    Ok(Found { ttl: ttl.min(attr_ttl), child: Some(child) })
                })
            })
        })
    }

    /// The inode `ino` itself, which the kernel may have forgotten: somebody has a handle of it. Errors: `Stale` where that is
    /// too long ago, or never was.
    pub fn again(&self, ino: u64) -> Step<Found> {
        let rules = self.rules.clone();
        if let Some(known) = self.inodes.get(ino) {
            let (identity, place) = (known.identity, known.place.clone());
            return known.ask(move |node| found_again(rules.clone(), identity, place.clone(), node));
        }
        let Some((first, way)) = self.way_back(ino) else { return Step::err(unknown()) };
        Step::wait(async move {
            let mut node = first.ask(Step::ok).resolve().await?;
            let (mut parent, mut last) = (ROOT, None);
            for forgotten in way {
                node = forgotten.node(&node).await?;
                parent = forgotten.parent;
                last = Some(forgotten);
            }
            let Forgotten { identity, how, .. } = last.ok_or_else(unknown)?;
            let (at, name) = match how {
                How::At(at) => (at, None),
                How::Called(name) => (0, Some(name)),
            };
            let origin = Arc::new(Origin::Held { parent, name, node: node.clone() });
            found_again(rules, identity, Place { origin, at, plain: false }, node).resolve().await
        })
    }

    /// The directory above the directory `ino`, likewise.
    pub fn above(&self, ino: u64) -> Step<Found> {
        let known = self.inodes.get(ino).map(|known| known.parent());
        match known.or_else(|| self.inodes.recall(ino).map(|forgotten| forgotten.parent)) {
            Some(parent) => self.again(parent),
            None => Step::err(unknown()),
        }
    }

    /// How `ino` is found from the next directory above that the kernel knows.
    fn way_back(&self, ino: u64) -> Option<(Known, Vec<Forgotten>)> {
        let (mut at, mut way) = (ino, Vec::new());
        while way.len() < DEEPEST {
            if let Some(known) = self.inodes.get(at) {
                way.reverse();
                return Some((known, way));
            }
            let forgotten = self.inodes.recall(at)?;
            at = forgotten.parent;
            way.push(forgotten);
        }
        None
    }

    /// The attributes of `ino` and how long they may be kept.
    pub fn attributes(&self, ino: u64) -> Step<(FileAttr, Duration)> {
        let rules = self.rules.clone();
        self.ask(ino, move |node| {
            let owners = rules.owners.clone();
            rules
                .meta(&node)
                .map(move |meta| Ok((attr::shown(&meta, ino, &owners)?, attr::ttl(meta.validity))))
        })
    }

    /// The target of the symbolic link `ino`.
    pub fn target(&self, ino: u64) -> Step<Bytes> {
        self.ask(ino, |node| match node.content {
            Content::Symlink(target) if target.len() <= LINK_LIMIT => Step::ok(target),
            Content::Symlink(target) => {
                let message = format!("a target of {} bytes cannot be shown", target.len());
                Step::err(Error::new(Kind::Corrupt, message))
            }
            _ => Step::err(Error::new(Kind::Invalid, "not a symbolic link")),
        })
    }

    /// Opens the directory `ino`.
    pub fn open_dir(&self, ino: u64) -> Step<Arc<OpenDir>> {
        match self.known(ino) {
            Ok(known) => {
                let lineage = self.lineage(ino, &known);
                known
                    .node()
                    .map(move |node| Ok(Arc::new(OpenDir::open(ino, lineage, known.parent(), &node)?)))
            }
            Err(error) => Step::err(error),
        }
    }

    /// The directory open under `handle`, and its listing.
    pub fn listing(&self, handle: u64, offset: u64) -> Step<(Arc<OpenDir>, Arc<dyn Listing>)> {
        let Some(dir) = self.dirs.get(handle) else {
            return Step::err(Error::new(Kind::Internal, "no such directory handle"));
        };
        dir.listing(offset).map(move |listing| Ok((dir, listing)))
    }

    /// Opens the file `ino`.
    pub fn open_file(&self, ino: u64) -> Step<Arc<OpenFile>> {
        self.ask(ino, |node| OpenFile::open(&node))
    }

    /// The file that a read is about: by its handle, or by its inode where opens have none.
    pub fn file(self: &Arc<Self>, ino: u64, handle: u64) -> Step<Arc<OpenFile>> {
        if handle != 0 {
            let file = self.files.get(handle);
            return Step::Ready(file.ok_or_else(|| Error::new(Kind::Internal, "no such file handle")));
        }
        if let Some(file) = self.readers.get(ino) {
            return Step::ok(file);
        }
        let state = self.clone();
        self.open_file(ino).map(move |file| Ok(state.readers.keep(ino, file)))
    }

    /// What the kernel is told of an entry of `dir` with its attributes, and where to find it again. Where they are not
    /// at hand, attributes of no lifetime make the kernel look it up when somebody asks for them.
    pub fn entry(&self, dir: &OpenDir, listing: &dyn Listing, entry: &Entry<'_>, identity: u128) -> Child {
        if let Some(child) = self.complete(dir, listing, entry, identity) {
            return child;
        }
        let origin = Origin::Named {
            parent: dir.ino,
            dir: dir.dir.clone(),
            apart: dir.lineage.apart,
            name: entry.name.into(),
        };
        let place = Place { origin: Arc::new(origin), at: entry.at, plain: false };
        let trail = self.trail(dir, entry);
        Child { identity, place, trail, attr: attr::placeholder(entry.kind, 0), attr_ttl: Duration::ZERO }
    }

    fn complete(
        &self,
        dir: &OpenDir,
        listing: &dyn Listing,
        entry: &Entry<'_>,
        identity: u128,
    ) -> Option<Child> {
        let (meta, place) = match &entry.meta {
            Some(meta) if meta.has_xattrs && self.rules.cuts() => {
                (ready(self.rules.meta(&listing.node(entry.at)?))?, None)
            }
            Some(meta) => (*meta, None),
            None => {
                let place = self.inodes.get(self.inodes.live(identity)?)?.place;
                let Origin::Held { node, .. } = &*place.origin else { return None };
                (ready(self.rules.meta(node))?, Some(place))
            }
        };
        let place =
            place.unwrap_or_else(|| Place { origin: dir.origin.clone(), at: entry.at, plain: plain(&meta) });
        self.rules.shown(&meta);
        let attr = attr::shown(&meta, 0, &self.rules.owners).ok()?;
        let trail = self.trail(dir, entry);
        Some(Child { identity, place, trail, attr, attr_ttl: attr::ttl(meta.validity).min(dir.ttl) })
    }

    fn trail(&self, dir: &OpenDir, entry: &Entry<'_>) -> Option<Trail> {
        self.keeps_trails().then(|| Trail::new(dir.ino, entry.name, entry.kind, entry.identity))
    }

    /// Whether it is kept how inodes were found, and files of several trees are kept apart: somebody is told of opens.
    fn keeps_trails(&self) -> bool {
        self.options.access_log.is_some()
    }

    /// What the identities of what is in the directory `ino`, known as `known`, derive from.
    pub fn lineage(&self, ino: u64, known: &Known) -> Lineage {
        let top = if self.keeps_trails() { self.inodes.top_of(ino) } else { None };
        let apart = top.and_then(|top| Some(self.inodes.get(top)?.identity));
        Lineage { identity: known.identity, apart }
    }

    /// Asks the node of `ino`.
    pub fn ask<T: Send + 'static>(
        &self,
        ino: u64,
        question: impl Fn(Node) -> Step<T> + Clone + Send + 'static,
    ) -> Step<T> {
        match self.known(ino) {
            Ok(known) => known.ask(question),
            Err(error) => Step::err(error),
        }
    }

    /// Takes back `count` look-ups of `ino`; the number may be another node's when it comes again.
    pub fn forget(&self, ino: u64, count: u64) {
        if self.inodes.forget(ino, count) {
            self.readers.drop(ino);
        }
    }

    /// What the table knows of `ino`. Errors: `Stale` for numbers that the kernel should have forgotten.
    pub fn known(&self, ino: u64) -> Result<Known> {
        self.inodes.get(ino).ok_or_else(unknown)
    }

    /// Whether opens are answered with "need none".
    pub fn opens_need_no_message(&self) -> bool {
        self.zero_message_opens.load(Ordering::Relaxed)
    }
}

/// The answer for a node that was found again.
fn found_again(rules: Rules, identity: u128, place: Place, node: Node) -> Step<Found> {
    rules.meta(&node).map(move |meta| {
        rules.shown(&meta);
        let attr_ttl = attr::ttl(meta.validity);
        let attr = attr::shown(&meta, 0, &rules.owners)?;
        let place = Place { plain: plain(&meta), ..place };
        let child = Child { identity, place, trail: None, attr, attr_ttl };
        Ok(Found { ttl: attr_ttl, child: Some(child) })
    })
}

fn unknown() -> Error {
    Error::new(Kind::Stale, "unknown inode")
}

/// Directories are never plain: made-up ones answer to attributes that they do not list.
fn plain(meta: &Meta) -> bool {
    !meta.has_xattrs && meta.kind != FileType::Dir
}

/// The answer, if it is in memory and no error.
pub(super) fn ready<T>(step: Step<T>) -> Option<T> {
    match step {
        Step::Ready(result) => result.ok(),
        Step::Wait(_) => None,
    }
}
