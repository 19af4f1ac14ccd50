//! Memory for keys and passwords: not swapped, in no core dump, wiped when it is given back.
//!
//! All of it lies in a few runs of pages that are mapped for this alone and kept for good. What is given back is wiped
//! and used again. How much of it the kernel may lock is limited (`RLIMIT_MEMLOCK`); what is beyond that works
//! like the rest, and [`state`] tells.

use std::alloc::{Layout, handle_alloc_error};
use std::collections::BTreeMap;
use std::fmt;
use std::mem::{ManuallyDrop, size_of_val};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous};
use serde::Serialize;
use zeroize::Zeroize;

/// What is handed out is a multiple of this long, and lies at a multiple of it.
const GRAIN: usize = 64;

/// So many bytes are mapped at least: of the 64 KiB that an ordinary user may lock, little is wasted.
const RUN: usize = 16 << 10;

const PAGE: usize = 4 << 10;

/// A value in locked memory. Moving it does not copy the value.
pub struct Locked<T: ?Sized>(NonNull<T>);

// SAFETY: it owns its value as a box does.
unsafe impl<T: ?Sized + Send> Send for Locked<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for Locked<T> {}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Bytes that were mapped.
    pub mapped: usize,
    /// Bytes of those that the kernel did not lock.
    pub unlocked: usize,
}

/// How much there is now.
pub fn state() -> State {
    arena().state
}

impl<T> Locked<T> {
    /// Moves `value` there; where it was given from is wiped.
    pub fn new(value: T) -> Self {
        const { assert!(align_of::<T>() <= GRAIN) };
        let mut value = ManuallyDrop::new(value);
        let at = take(size_of::<T>()).cast::<T>();
        // SAFETY: both are valid for a `T` and apart; the value is used at its new place alone from here on, where its
        // bytes, padding included, may be overwritten at the old.
        unsafe {
            ptr::copy_nonoverlapping(&raw const *value, at.as_ptr(), 1);
            wipe(NonNull::from(&mut value).cast(), size_of::<T>());
        }
        Locked(at)
    }
}

impl From<&[u8]> for Locked<[u8]> {
    fn from(bytes: &[u8]) -> Self {
        let at = take(bytes.len());
        // SAFETY: there is room for that many bytes, which nobody else has.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at.as_ptr(), bytes.len()) };
        Locked(NonNull::slice_from_raw_parts(at, bytes.len()))
    }
}

impl From<&str> for Locked<str> {
    fn from(text: &str) -> Self {
        let bytes = ManuallyDrop::new(Locked::<[u8]>::from(text.as_bytes()));
        // SAFETY: `str` is laid out as its bytes are, and these are those of one.
        Locked(unsafe { NonNull::new_unchecked(bytes.0.as_ptr() as *mut str) })
    }
}

impl Clone for Locked<[u8]> {
    fn clone(&self) -> Self {
        Locked::from(&**self)
    }
}

impl Clone for Locked<str> {
    fn clone(&self) -> Self {
        Locked::from(&**self)
    }
}

impl<T: ?Sized + PartialEq> PartialEq for Locked<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: ?Sized + Eq> Eq for Locked<T> {}

impl<T: ?Sized> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(…)")
    }
}

impl<T: ?Sized> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it owns the value, which is written only when it is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl<T: ?Sized> Drop for Locked<T> {
    fn drop(&mut self) {
        let length = size_of_val(&**self);
        // SAFETY: nobody has the value after this; its place came from `take` with this length.
        unsafe {
            ptr::drop_in_place(self.0.as_ptr());
            wipe(self.0.cast(), length);
        }
        give_back(self.0.cast(), length);
    }
}

/// Overwrites `length` bytes. Safety: they are valid for writing and hold nothing that is used any more.
unsafe fn wipe(at: NonNull<u8>, length: usize) {
    let bytes = at.cast::<std::mem::MaybeUninit<u8>>();
    // SAFETY: as the caller says; bytes that may be uninitialised need no value.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_ptr(), length) }.zeroize();
}

/// What is mapped.
struct Arena {
    /// Address and length of each piece that nobody has; neighbours are one.
    free: BTreeMap<usize, usize>,
    state: State,
}

static ARENA: Mutex<Arena> =
    Mutex::new(Arena { free: BTreeMap::new(), state: State { mapped: 0, unlocked: 0 } });

fn arena() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Room for `length` bytes.
fn take(length: usize) -> NonNull<u8> {
    let taken = NonNull::new(ptr::with_exposed_provenance_mut(arena().take(length)));
    taken.unwrap_or_else(|| handle_alloc_error(Layout::new::<u8>()))
}

fn give_back(at: NonNull<u8>, length: usize) {
    arena().give_back(at.addr().get(), rounded(length));
}

fn rounded(length: usize) -> usize {
    length.max(1).next_multiple_of(GRAIN)
}

impl Arena {
    /// The address of a free piece; 0 where there is no memory.
    fn take(&mut self, length: usize) -> usize {
        let length = rounded(length);
        let fits = |free: &BTreeMap<usize, usize>| {
            free.iter().find(|(_, free)| **free >= length).map(|(at, free)| (*at, *free))
        };
        if fits(&self.free).is_none() {
            self.map(length.max(RUN).next_multiple_of(PAGE));
        }
        let Some((at, free)) = fits(&self.free) else { return 0 };
        self.free.remove(&at);
        if free > length {
            self.free.insert(at + length, free - length);
        }
        at
    }

    fn give_back(&mut self, at: usize, length: usize) {
        let mut piece = (at, length);
        if let Some((before, free)) = self.free.range(..at).next_back().map(|(at, free)| (*at, *free))
            && before + free == at
        {
            self.free.remove(&before);
            piece = (before, free + piece.1);
        }
        if let Some(after) = self.free.remove(&(at + length)) {
            piece.1 += after;
        }
        self.free.insert(piece.0, piece.1);
    }

    /// Maps `length` bytes more, if there are any.
    fn map(&mut self, length: usize) {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping, at a place that the kernel chooses; both calls are about all of it.
        let (at, is_locked) = unsafe {
            let Ok(at) = mmap_anonymous(ptr::null_mut(), length, access, flags) else { return };
            // A kernel without the advice has no core dumps either.
            let _ = madvise(at, length, Advice::LinuxDontDump);
            (at, mlock(at, length).is_ok())
        };
        self.state.mapped += length;
        self.state.unlocked += if is_locked { 0 } else { length };
        self.give_back(at.expose_provenance(), length);
    }
}

/// The flags that the kernel has for the memory at `address`, as `VmFlags:` of smaps names them.
#[cfg(test)]
pub fn flags(address: usize) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_here = false;
    for line in text.lines() {
        let head = line.split(' ').next().unwrap_or_default();
        if let Some((from, to)) = head.split_once('-').filter(|_| !head.contains(':')) {
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            is_here = (number(from)..number(to)).contains(&address);
        }
        if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| is_here) {
            return flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    panic!("nothing is mapped at {address:x}");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use rustix::process::{Resource, getrlimit};

    use super::*;

    /// Reads what lies at an address, whatever it is by now.
    fn at(address: usize, length: usize) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; length];
        fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, address as u64).unwrap();
        bytes
    }

    #[test]
    fn keys_are_locked_and_in_no_dump() {
        let key = Locked::new([7_u8; 32]);
        let flags = flags(&raw const *key as usize);
        assert!(flags.iter().any(|flag| flag == "dd"), "it would be dumped: {flags:?}");
        // Other tests have keys, too; none of them has many.
        let may_lock = getrlimit(Resource::Memlock).current.is_none_or(|most| most >= 1 << 20);
        if !may_lock {
            eprintln!("skipped: only little may be locked here");
            return;
        }
        assert!(flags.iter().any(|flag| flag == "lo"), "it could be swapped: {flags:?}");
        assert_eq!(state().unlocked, 0, "of {:?}", state());
        assert!(state().mapped >= RUN);
    }

    /// In a run of its own, so that nobody takes the place meanwhile.
    #[test]
    fn what_is_dropped_is_wiped() {
        let secret: Locked<[u8]> = Locked::from(vec![0xa5; RUN].as_slice());
        let (address, length) = (secret.as_ptr() as usize, secret.len());
        assert_eq!(at(address, length), vec![0xa5; RUN]);
        let held = arena();
        // Wiped before it is given back: that has to wait for who holds the arena.
        std::thread::scope(|scope| {
            scope.spawn(|| drop(secret));
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while at(address, length).iter().any(|byte| *byte != 0) {
                assert!(std::time::Instant::now() < deadline, "it was not wiped");
                std::thread::yield_now();
            }
            drop(held);
        });
    }

    #[test]
    fn values_are_dropped_once_and_keep_what_they_are() {
        let counted = Arc::new(5);
        let locked = Locked::new(Arc::clone(&counted));
        assert_eq!((**locked, Arc::strong_count(&counted)), (5, 2));
        drop(locked);
        assert_eq!(Arc::strong_count(&counted), 1);
        let text: Locked<str> = Locked::from("geheim");
        let bytes: Locked<[u8]> = Locked::from(&b""[..]);
        assert_eq!((&*text.clone(), bytes.clone().len()), ("geheim", 0));
        assert!(text == text.clone() && bytes != Locked::from(&b"x"[..]));
        assert_eq!(format!("{text:?} {bytes:?}"), "Locked(…) Locked(…)");
        #[repr(align(64))]
        struct Aligned(u8);
        let aligned = [Locked::new(Aligned(1)), Locked::new(Aligned(2))];
        assert!(aligned.iter().all(|one| (&raw const **one).is_aligned()));
        assert_eq!(aligned.iter().map(|one| (**one).0).sum::<u8>(), 3);
    }

    #[test]
    fn what_is_given_back_becomes_one_piece_and_is_used_again() {
        let mut arena = Arena { free: BTreeMap::new(), state: State::default() };
        let pieces: Vec<usize> = (0..4).map(|n| arena.take(GRAIN * n + 1)).collect();
        let mapped = arena.state.mapped;
        assert!(pieces.iter().all(|at| *at != 0 && at.is_multiple_of(GRAIN)));
        for at in [1, 3, 0, 2] {
            arena.give_back(pieces[at], rounded(GRAIN * at + 1));
        }
        assert_eq!(arena.free, BTreeMap::from([(pieces[0], mapped)]));
        assert_eq!(arena.take(mapped), pieces[0]);
        assert_eq!(arena.take(RUN + 1) % PAGE, 0, "more than one run holds");
        assert!(arena.state.mapped > mapped);
    }
}
