//! Writing, on a thread of its own: whoever has something to keep puts it into a queue and goes on. What finds no room
//! in the queue is not kept.
//!
//! Each process appends to segments of its own, one a class, which it has claimed: one that another left unfinished, or a
//! new one. A record is written before the table points to it, and nothing waits for the disk; a process that is killed
//! leaves at most a record that the table does not know. What cannot be written is not kept, and tried again later.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::files::Files;
use super::heads::Head;
use super::key::{Key, Owner};
use super::ledger;
use super::record::{self, ALIGN};
use super::room;
use super::segment::{Class, Number, Spot, is_there};
use super::share::{Marks, Share};
use crate::error::{Error, Kind, Result};
use crate::observe::metrics;

/// So many bytes may wait to be written.
const QUEUE: usize = 32 << 20;

/// What an entry costs in the queue beside its payload.
const PER_ENTRY: usize = 256;

/// Records are written together up to this many bytes.
const AT_ONCE: usize = 1 << 20;

/// After so long without work what was written is handed to the disk. What is known of stores waits no longer to be
/// written, work or not.
const IDLE: Duration = Duration::from_secs(2);

/// Who has nothing to write looks so often whether others have removed what is open.
const LOOK: Duration = Duration::from_secs(60);

/// Nothing is written for so long after it failed.
const PAUSE: Duration = Duration::from_secs(60);

/// No entry may be larger than this part of what is allowed.
const LARGEST_PART: u64 = 16;

/// Something to keep.
pub(super) struct Entry {
    pub key: Key,
    pub owner: Owner,
    pub class: Class,
    /// Whose part of the cache it takes, where that is bounded.
    pub share: Option<Share>,
    pub sealed: bool,
    pub payload: Bytes,
}

/// What the thread is asked to do.
pub(super) enum Order {
    Keep(Entry),
    /// What is new of a store.
    Head(Owner, Head),
    /// What is known of a store is wrong.
    Forget(Owner),
    /// Answer when everything before this was done.
    Flush(Sender<()>),
    /// The same, and give up what is claimed: nothing comes after this.
    End(Sender<()>),
}

/// Bytes that wait to be written.
#[derive(Default)]
pub(super) struct Waiting(AtomicUsize);

impl Waiting {
    /// Takes room for an entry of `bytes`, if there is any.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let before = self.0.fetch_add(bytes + PER_ENTRY, Ordering::Relaxed);
        // What is larger than the queue is kept when nothing else waits.
        let fits = before == 0 || before.saturating_add(bytes) <= QUEUE;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes + PER_ENTRY, Ordering::Relaxed);
    }
}

/// What goes into the same segments.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Lane {
    class: Class,
    share: Option<Share>,
}

/// A segment that is being written to.
struct Active {
    number: Number,
    /// Claimed: closing it gives it up.
    file: File,
    end: u64,
    full: u64,
}

/// Records that are not written yet.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Key, offset in `bytes`, and length of each.
    records: Vec<(Key, usize, u32)>,
}

/// The thread's own.
pub(super) struct Writer {
    files: Arc<Files>,
    waiting: Arc<Waiting>,
    /// What the option allows.
    option: u64,
    /// What was allowed when room was made last.
    allowed: u64,
    active: HashMap<Lane, Active>,
    pending: HashMap<Lane, Pending>,
    heads: HashMap<Owner, Head>,
    /// Since when one of them waits.
    heads_since: Option<Instant>,
    /// The segments there were when room was made last.
    known: Vec<Number>,
    unsynced: bool,
    paused: Option<Instant>,
    told: bool,
}

impl Writer {
    pub(super) fn new(files: Arc<Files>, waiting: Arc<Waiting>, option: u64) -> Self {
        Writer {
            files,
            waiting,
            option,
            allowed: option,
            active: HashMap::new(),
            pending: HashMap::new(),
            heads: HashMap::new(),
            heads_since: None,
            known: Vec::new(),
            unsynced: false,
            paused: None,
            told: false,
        }
    }

    /// Works until nobody can ask for anything any more.
    pub(super) fn work(mut self, orders: &Receiver<Order>) {
        while let Some(order) = self.next(orders) {
            match order {
                Order::Keep(entry) => self.keep(entry),
                Order::Head(owner, head) => {
                    self.heads_since.get_or_insert_with(Instant::now);
                    self.heads.entry(owner).or_default().extend(head);
                }
                Order::Forget(owner) => self.forget(owner),
                // Whoever asked may have given up.
                Order::Flush(done) => {
                    self.finish();
                    let _ = done.send(());
                }
                Order::End(done) => {
                    self.finish();
                    self.active.clear();
                    let _ = done.send(());
                    return;
                }
            }
            if self.heads_since.is_some_and(|since| since.elapsed() >= IDLE) {
                self.write_heads();
            }
        }
        self.finish();
    }

    /// What is asked next; while nothing is, what can wait is done. `None` when nobody can ask any more.
    fn next(&mut self, orders: &Receiver<Order>) -> Option<Order> {
        match orders.try_recv() {
            Ok(order) => return Some(order),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => self.write_all(),
        }
        let mut patience = IDLE;
        loop {
            match orders.recv_timeout(patience) {
                Ok(order) => return Some(order),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.settle(),
            }
            patience = LOOK;
        }
    }

    fn finish(&mut self) {
        self.write_all();
        self.write_heads();
    }

    fn keep(&mut self, entry: Entry) {
        let Entry { key, owner, class, share, sealed, payload } = entry;
        let lane = Lane { class, share };
        let length = payload.len();
        let allowed = share.map_or(self.allowed, |share| share.bytes.min(self.allowed));
        if !self.is_paused() && length as u64 <= allowed / LARGEST_PART {
            let payload =
                if sealed { self.files.seal.seal(&key.0, &payload).map(Bytes::from) } else { Some(payload) };
            let pending = self.pending.entry(lane).or_default();
            if let Some(payload) = payload
                && let Ok(whole) = u32::try_from(record::length_of(payload.len() as u64))
            {
                let offset = pending.bytes.len();
                record::append(&mut pending.bytes, owner, &key, sealed, &payload);
                pending.records.push((key, offset, whole));
            }
            if pending.bytes.len() >= AT_ONCE {
                self.write(lane);
            }
        }
        self.waiting.give_back(length);
    }

    fn write_all(&mut self) {
        let mut lanes: Vec<Lane> = self.pending.keys().copied().collect();
        lanes.sort_unstable_by_key(|lane| lane.class == Class::Metadata);
        lanes.into_iter().for_each(|lane| self.write(lane));
    }

    /// Writes what is pending of a lane.
    fn write(&mut self, lane: Lane) {
        let Some(pending) = self.pending.remove(&lane).filter(|pending| !pending.records.is_empty()) else {
            return;
        };
        if self.is_paused() {
            return;
        }
        let bytes = pending.bytes.len() as u64;
        match self.append(lane, &pending) {
            Ok(()) => {
                metrics::CACHE_WRITTEN_BYTES.add(bytes);
                self.unsynced = true;
                self.told = false;
            }
            Err(error) => self.give_up(&error),
        }
    }

    fn append(&mut self, lane: Lane, pending: &Pending) -> Result<()> {
        let bytes = pending.bytes.len() as u64;
        let active = match self.active.remove(&lane).filter(|active| active.takes(bytes)) {
            Some(active) => active,
            None => self.begin(lane, bytes)?,
        };
        let active = self.active.entry(lane).or_insert(active);
        active
            .file
            .write_all_at(&pending.bytes, active.end)
            .map_err(|e| Error::io("a segment of the cache", e))?;
        let (number, start) = (active.number, active.end);
        active.end += bytes;
        let newest = self.known.iter().max().copied();
        let is_gone =
            |number: Number| newest.is_some_and(|newest| number < newest) && !self.known.contains(&number);
        for (key, offset, length) in &pending.records {
            let spot = Spot { number, offset: start + *offset as u64, length: *length };
            self.files.table.put(key, spot, is_gone)?;
        }
        Ok(())
    }

    /// A segment that takes `bytes` more: one that nobody writes to any more, or a new one. Room is made first.
    fn begin(&mut self, lane: Lane, bytes: u64) -> Result<Active> {
        let Lane { class, share } = lane;
        let mut held = self.make_room(bytes)?;
        let numbers: Vec<Number> = held.iter().map(|held| held.number).collect();
        let marks = Marks::read(&self.files.folder, &numbers)?;
        let mut full = room::segment_size(self.allowed);
        if let Some(share) = share {
            full = share.segment_size(full);
            held = self.make_room_in(share, &marks, held, full.max(bytes))?;
        }
        self.known = held.iter().map(|held| held.number).collect();
        let fits = |held: &&room::Held| {
            held.number.class() == class && held.bytes < full / 2 && marks.is_of(share, held.number)
        };
        for held in held.iter().filter(fits) {
            let name = held.number.name();
            let Ok(file) = self.files.folder.open_for_writing(&name) else { continue };
            if self.files.folder.claim(&name, &file)? {
                let active = Active::new(held.number, file, full)?;
                if active.takes(bytes) {
                    return Ok(active);
                }
            }
        }
        // Another process may take the same number: then the next is tried.
        let mut numbers: Vec<Number> = self.known.clone();
        for _ in 0..100 {
            let full_up = || Error::new(Kind::System, "no more numbers for segments of the cache");
            let number = Number::after(numbers.iter().copied(), class).ok_or_else(full_up)?;
            let name = number.name();
            match self.files.folder.create(&name) {
                Ok(file) if self.files.folder.claim(&name, &file)? => {
                    self.known.push(number);
                    if let Some(share) = share {
                        share.mark(&self.files.folder, number)?;
                    }
                    return Active::new(number, file, full);
                }
                Err(error) if self.files.folder.stat(&name).is_err() => return Err(error),
                _ => numbers.push(number),
            }
        }
        Err(Error::new(Kind::System, "no segment of the cache can be made"))
    }

    /// Removes what is too much when there will be a segment more. While another process does so, it is left to that one.
    fn make_room(&mut self, bytes: u64) -> Result<Vec<room::Held>> {
        let folder = &self.files.folder;
        let mut held = room::held(folder)?;
        let ledgers = ledger::kept(folder)?.iter().map(|kept| kept.bytes).sum();
        self.allowed = room::allowed(folder, self.option, &held, ledgers).saturating_sub(ledgers);
        if let Some(_lock) = folder.lock()? {
            let new = room::segment_size(self.allowed).max(bytes);
            let going = room::surplus(held.clone(), self.allowed.saturating_sub(new), self.allowed);
            if room::remove(folder, &going)? > 0 {
                self.files.close_all();
                held = room::held(folder)?;
            }
        }
        Ok(held)
    }

    /// Removes what is too much of a share when there will be `new` bytes more. While another process makes room, it is left
    /// to that one.
    fn make_room_in(
        &mut self,
        share: Share,
        marks: &Marks,
        held: Vec<room::Held>,
        new: u64,
    ) -> Result<Vec<room::Held>> {
        let folder = &self.files.folder;
        let own = held.iter().filter(|held| marks.is_of(Some(share), held.number)).copied().collect();
        let going = room::surplus(own, share.bytes.saturating_sub(new), share.bytes);
        if !going.is_empty()
            && let Some(_lock) = folder.lock()?
            && room::remove(folder, &going)? > 0
        {
            self.files.close_all();
            return room::held(folder);
        }
        Ok(held)
    }

    /// What can wait until there is nothing else to do.
    fn settle(&mut self) {
        self.write_heads();
        if std::mem::take(&mut self.unsynced) {
            // What is not safe when the machine stops is a miss.
            self.active.values().for_each(|active| drop(active.file.sync_data()));
            let _ = self.files.table.sync();
        }
        self.close_removed();
    }

    /// Lets go of what others have removed: as long as it is open, its space is not free.
    fn close_removed(&mut self) {
        self.active.retain(|_, active| is_there(&active.file));
        self.files.close_removed();
    }

    fn write_heads(&mut self) {
        self.heads_since = None;
        for (owner, head) in std::mem::take(&mut self.heads) {
            if let Err(error) = self.files.put_head(owner, head) {
                self.give_up(&error);
            }
        }
    }

    fn forget(&mut self, owner: Owner) {
        self.heads.remove(&owner);
        if let Err(error) = self.files.remove_head(owner) {
            self.give_up(&error);
        }
    }

    fn is_paused(&self) -> bool {
        self.paused.is_some_and(|since| since.elapsed() < PAUSE)
    }

    /// Nothing is kept for a while; says why, once for each time that it worked before.
    fn give_up(&mut self, error: &Error) {
        self.active.clear();
        self.pending.clear();
        self.paused = Some(Instant::now());
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!("the cache takes nothing more for now: {error}");
        }
    }
}

impl Active {
    /// Appends to `file`, which is claimed.
    fn new(number: Number, file: File, full: u64) -> Result<Self> {
        let meta = file.metadata().map_err(|e| Error::io("a segment of the cache", e))?;
        Ok(Active { number, file, end: meta.len().next_multiple_of(ALIGN), full })
    }

    /// Whether `bytes` more may be appended. One that somebody removed takes nothing.
    fn takes(&self, bytes: u64) -> bool {
        let end = self.end.saturating_add(bytes);
        let fits = self.end == 0 || end <= self.full;
        fits && end <= Spot::FARTHEST && is_there(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::cache::Folder;

    fn writer(dir: &tempfile::TempDir) -> Writer {
        let folder = Folder::open(&dir.path().join("stored")).unwrap();
        let files = Arc::new(Files::open(folder, 1 << 20).unwrap());
        Writer::new(files, Arc::default(), 1 << 20)
    }

    fn entry(n: u64) -> Entry {
        let owner = Owner::of("x");
        let key = Key::range(owner, b"pack", n, 1);
        Entry {
            key,
            owner,
            class: Class::Data,
            share: None,
            sealed: false,
            payload: Bytes::from_static(&[7; 5000]),
        }
    }

    #[test]
    fn what_others_removed_is_let_go_of() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir);
        writer.waiting.take(5000);
        writer.keep(entry(1));
        writer.finish();
        let key = entry(1).key;
        assert!(writer.files.read(&[key])[0].is_some());
        writer.settle();
        assert_eq!(writer.active.len(), 1);
        let open = || {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let place = dir.path().join("stored");
            let targets = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
            targets
                .filter(|target| target.starts_with(&place) && target.to_string_lossy().contains("data"))
                .count()
        };
        assert_eq!(open(), 2, "one to write, one to read");
        for number in writer.known.clone() {
            writer.files.folder.remove(&number.name()).unwrap();
        }
        writer.settle();
        assert_eq!((writer.active.len(), open()), (0, 0));
    }

    #[test]
    fn what_is_known_of_stores_is_written_while_there_is_work() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(&dir);
        let (files, waiting) = (Arc::clone(&writer.files), Arc::clone(&writer.waiting));
        let ((orders, taken), (done, ended)) = (channel(), channel());
        let working = std::thread::spawn(move || writer.work(&taken));
        let owner = Owner::of("x");
        orders.send(Order::Head(owner, Head::new("x", "x"))).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while files.head(owner).is_none() {
            assert!(Instant::now() < deadline, "it waits for a pause, and there is none");
            if waiting.take(5000) {
                orders.send(Order::Keep(entry(2))).unwrap();
            }
        }
        orders.send(Order::End(done)).unwrap();
        ended.recv().unwrap();
        working.join().unwrap();
    }
}
