//! Directories of this machine as nodes of the shown tree.

use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

use super::ahead;
use super::beneath;
use super::descriptor::Descriptor;
use super::entries::{self, Entries, Found, Names, Reading};
use super::file::HostFile;
use super::place::Place;
use super::rights::Rights;
use super::stat::Stat;
use super::xattrs::{HostXattrs, Way};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::{Boarding, Waiter};
use crate::tree::{
    Content, Cookie, Dir, Entry, FileType, Identity, Listing, Meta, Node, Sink, Step, Validity,
};

/// A reading that ended without a word is begun anew, at most this often.
const TRIES: usize = 3;

/// A directory at its place.
#[derive(Clone)]
pub(super) struct HostDir {
    place: Arc<Place>,
}

impl HostDir {
    /// The directory at `place`.
    pub(super) fn at(place: Arc<Place>) -> Self {
        HostDir { place }
    }

    /// Its own node, with these attributes.
    pub(super) fn node(&self, stat: &Stat, has_xattrs: bool) -> Node {
        let meta = stat.meta(0, Identity::Path, self.place.view.validity, has_xattrs);
        self.with(meta, Content::Dir(Arc::new(self.clone())), b"")
    }

    /// Where it lies.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// What `call` gives, where it may block.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Step<T> {
        let host = Arc::clone(&self.place.view.host);
        Step::wait(async move { host.run(call).await })
    }

    /// Whether the entry `name` is known to have no extended attributes.
    pub(super) fn has_no_xattrs(&self, name: &[u8]) -> bool {
        self.at_hand().and_then(|entries| Some(!entries.find(name)?.may_have_xattrs())).unwrap_or(false)
    }

    /// Notes that the entry `name` has no extended attributes.
    pub(super) fn note_no_xattrs(&self, name: &[u8]) {
        if let Some(entries) = self.at_hand()
            && let Some(found) = entries.find(name)
        {
            found.has_no_xattrs();
        }
    }

    /// Who has rights that this process has not, where that is near enough to be asked.
    pub(super) fn rights(&self) -> Option<Arc<dyn Rights>> {
        let view = &self.place.view;
        view.host.rights.clone().filter(|_| view.at_hand().is_none_or(|top| top.is_near))
    }

    /// Whether the entry `name` has attributes of `trusted.`, if that is known.
    pub(super) fn is_trusted(&self, name: &[u8]) -> Option<bool> {
        let entries = self.at_hand()?;
        entries.trusted.has(entries.find(name)?.at)
    }

    /// The same, for who may see them and will want to know of other directories too.
    pub(super) fn is_trusted_for_all(&self, name: &[u8]) -> Option<bool> {
        let entries = self.at_hand()?;
        if entries.trusted.want() {
            self.place.view.allowance.renew();
        }
        entries.trusted.has(entries.find(name)?.at)
    }

    /// Whether it may have some. The first of a directory to be asked about has all others asked about too: who looks at
    /// one looks at all, and hardly ever has one any.
    pub(super) fn may_be_trusted(
        &self,
        rights: &dyn Rights,
        open: &Descriptor,
        name: &[u8],
    ) -> rustix::io::Result<bool> {
        let Some(entries) = self.at_hand().filter(|entries| entries.find(name).is_some()) else {
            return Ok(true);
        };
        entries.trusted.ask(&entries, || rights.entries(open.as_fd()))?;
        Ok(entries.find(name).and_then(|found| entries.trusted.has(found.at)).unwrap_or(true))
    }

    /// Has `rights` asked about all `entries` before anybody wants to know, unless they are very many; what fails is told
    /// to who asks.
    fn ask_ahead(&self, entries: Arc<Entries>, rights: Arc<dyn Rights>) {
        let (dir, runtime) = (self.clone(), &self.place.view.runtime);
        runtime.spawn(async move {
            let host = Arc::clone(&dir.place.view.host);
            let Ok(_permit) = host.asked_ahead.acquire().await else { return };
            let asked = host.run(move || {
                if !dir.place.view.opened()?.is_near {
                    return Ok(());
                }
                let open = dir.place.open()?;
                let asked = entries.trusted.ask(&entries, || rights.entries(open.as_fd()));
                asked.map_err(|e| Error::io("listxattr", e.into()))
            });
            let _ = asked.await;
        });
    }

    /// The entries, if they are in memory and not too old.
    pub(super) fn at_hand(&self) -> Option<Arc<Entries>> {
        let view = &self.place.view;
        let kept = view.host.shared.directories.get(&self.place.key())?;
        let entries = kept.downcast::<Entries>().ok()?;
        match view.validity {
            Validity::For(most) if entries.age() > most => None,
            _ => Some(entries),
        }
    }

    /// The entries, read if they are not in memory.
    fn entries(&self) -> Step<Arc<Entries>> {
        if let Some(entries) = self.at_hand() {
            return Step::ok(entries);
        }
        let dir = self.clone();
        Step::wait(async move {
            for _ in 0..TRIES {
                if let Some(read) = dir.begin().await {
                    return read;
                }
            }
            Err(dir.place.explain(None, Error::new(Kind::Internal, "the reading of a directory died")))
        })
    }

    /// Begins to read the entries, unless somebody does. Within a runtime.
    fn begin(&self) -> Waiter<Result<Arc<Entries>>> {
        match self.place.view.host.reading.board(self.place.key()) {
            Boarding::Join(waiter) => waiter,
            Boarding::Lead(landing) => {
                let (waiter, dir) = (landing.waiter(), self.clone());
                let read = self.wait(move || dir.read()).resolve();
                tokio::spawn(async move { landing.land(read.await) });
                waiter
            }
        }
    }

    /// Reads the entries before anybody asks, unless there are very many; what fails is told to who asks.
    pub(super) fn read_ahead(&self) {
        let (dir, runtime) = (self.clone(), &self.place.view.runtime);
        runtime.spawn(async move {
            let host = Arc::clone(&dir.place.view.host);
            let Ok(_permit) = host.ahead.acquire().await else { return };
            let Boarding::Lead(landing) = host.reading.board(dir.place.key()) else { return };
            if dir.at_hand().is_some() {
                return;
            }
            let read = host.run(move || dir.read_up_to(ahead::MOST));
            if let Ok(Some(entries)) = read.await {
                entries.walk.expect();
                landing.land(Ok(entries));
            }
        });
    }

    /// Reads the entries. Blocks.
    fn read(&self) -> Result<Arc<Entries>> {
        let read = self.read_up_to(usize::MAX).map_err(|error| self.place.explain(None, error))?;
        read.ok_or_else(|| Error::new(Kind::Internal, "a directory without end"))
    }

    /// Reads the entries if there are no more than `most`. Blocks.
    fn read_up_to(&self, most: usize) -> Result<Option<Arc<Entries>>> {
        let view = &self.place.view;
        let is_near = view.opened()?.is_near;
        let dir = self.place.open()?;
        let (_, device) = Stat::of(&dir).map_err(|e| Error::io("stat", e.into()))?;
        let names = Names::list(&dir)?;
        if names.len() > most {
            return Ok(None);
        }
        let omit = &mut |name: &[u8], error| view.host.omit(view, &self.place.path_of(name), &error);
        let entries = Arc::new(Entries::read(&names, Reading { dir, device, is_near, omit })?);
        let weight = entries.weight();
        view.host.shared.directories.insert(self.place.key(), Arc::clone(&entries) as _, weight);
        Ok(Some(entries))
    }

    /// The directory `name` in it.
    pub(super) fn below(&self, name: &[u8]) -> Self {
        HostDir::at(Arc::new(self.place.join(name)))
    }

    /// Looks one name up without reading the whole directory. Blocks.
    fn find(&self, name: &[u8]) -> Result<Option<Node>> {
        // What a file system hides is not listed, and begins with a dot: snapshots of Ceph, Gluster and ZFS.
        if name.starts_with(b".") {
            let entries = self.read()?;
            return Ok(entries.find(name).map(|found| self.listed(&found)));
        }
        self.find_now(name).map_err(|error| self.place.explain(Some(name), error))
    }

    fn find_now(&self, name: &[u8]) -> Result<Option<Node>> {
        let is_near = self.place.view.opened()?.is_near;
        let dir = self.place.open()?;
        let says = |e: Errno| Error::io("stat", e.into());
        let (_, device) = Stat::of(&dir).map_err(says)?;
        let (stat, target) = match entries::look(&dir, name, device) {
            Err(Errno::NOENT) => {
                // In a directory that was removed nothing is found either.
                let removed = beneath::visit(&dir, |_, _| ()) == Err(Errno::NOENT);
                return if removed { Err(entries::removed()) } else { Ok(None) };
            }
            found => found.map_err(says)?,
        };
        let has_xattrs = !is_near || Way::into(&dir).has_any(name);
        Ok(Some(self.entry(name, &stat, &target, has_xattrs)))
    }

    fn file(&self, name: &[u8], stat: &Stat) -> HostFile {
        HostFile::new(Arc::clone(&self.place.view), self.place.path_of(name), *stat)
    }

    fn listed(&self, found: &Found<'_>) -> Node {
        self.entry(found.name, found.stat, found.target, found.may_have_xattrs())
    }

    /// The node of the entry `name`.
    fn entry(&self, name: &[u8], stat: &Stat, target: &[u8], has_xattrs: bool) -> Node {
        let meta = self.meta(stat, target, has_xattrs);
        let content = match meta.kind {
            FileType::Dir if stat.is_border => Content::Dir(Arc::new(Border)),
            FileType::Dir => Content::Dir(Arc::new(self.below(name))),
            FileType::File => Content::File(Arc::new(self.file(name, stat))),
            FileType::Symlink => Content::Symlink(Bytes::copy_from_slice(target)),
            _ => Content::Special,
        };
        self.with(meta, content, name)
    }

    fn meta(&self, stat: &Stat, target: &[u8], has_xattrs: bool) -> Meta {
        let view = &self.place.view;
        let identity = match stat.kind() {
            FileType::File => Identity::Key(stat.key(view.hash)),
            _ => Identity::Path,
        };
        stat.meta(target.len(), identity, view.validity, has_xattrs)
    }

    fn with(&self, meta: Meta, content: Content, name: &[u8]) -> Node {
        let xattrs = || Arc::new(HostXattrs { dir: self.clone(), name: name.into() }) as _;
        // Of what seems to have none others may see some: whoever is privileged asks.
        let may_have = meta.has_xattrs || self.place.view.host.rights.is_some();
        Node { meta, content, xattrs: may_have.then(xattrs) }
    }
}

/// Whether a directory can have an entry of this name at all.
fn is_name(name: &[u8]) -> bool {
    let fits = (1..=255).contains(&name.len()) && name != b"." && name != b"..";
    fits && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

impl Dir for HostDir {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        if !is_name(name) {
            return Step::ok(None);
        }
        if let Some(entries) = self.at_hand() {
            return Step::ok(entries.find(name).map(|found| self.listed(&found)));
        }
        let (dir, name) = (self.clone(), name.to_vec());
        self.wait(move || dir.find(&name))
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        let dir = self.clone();
        ahead::after(self);
        self.entries().map(move |entries| Ok(Arc::new(Listed { dir, entries }) as Arc<dyn Listing>))
    }
}

/// A directory with its entries.
struct Listed {
    dir: HostDir,
    entries: Arc<Entries>,
}

impl Listing for Listed {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        for found in self.entries.from(from) {
            let meta = self.dir.meta(found.stat, found.target, found.may_have_xattrs());
            let entry = Entry {
                at: found.at,
                next: found.at + 1,
                name: found.name,
                kind: meta.kind,
                identity: meta.identity,
                meta: Some(meta),
            };
            if sink.entry(&entry).is_break() {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        self.entries.at(at).map(|found| self.dir.listed(&found))
    }

    fn will_read(&self, files: &[Cookie]) {
        if self.entries.len() <= ahead::MOST
            && let Some(rights) = self.dir.rights()
            && self.entries.trusted.expect(&self.dir.place.view.allowance)
        {
            self.dir.ask_ahead(Arc::clone(&self.entries), rights);
        }
        let age = self.entries.age();
        let known = files.iter().filter_map(|at| self.entries.to_read_ahead(*at, age));
        let known = known.filter(|found| found.stat.kind() == FileType::File);
        let files: Vec<HostFile> = known.map(|found| self.dir.file(found.name, found.stat)).collect();
        if files.is_empty() {
            return;
        }
        let reading = self.dir.wait(move || {
            files.iter().for_each(HostFile::read_ahead);
            Ok(())
        });
        self.dir.place.view.runtime.spawn(reading.resolve());
    }
}

/// Where another file system begins: its top is shown, and nothing in it.
struct Border;

impl Dir for Border {
    fn lookup(&self, _: &[u8]) -> Step<Option<Node>> {
        Step::ok(None)
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        Step::ok(Arc::new(Nothing))
    }
}

/// No entries.
struct Nothing;

impl Listing for Nothing {
    fn visit(&self, _: Cookie, _: &mut dyn Sink) {}

    fn node(&self, _: Cookie) -> Option<Node> {
        None
    }
}
