//! Users and groups of this machine, by name or number.
//!
//! Where users come from a network, an answer takes a while and may not come at all. What was answered is kept for a
//! while, and nobody waits for anybody else's answer.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An answer is as good as a new one for so long.
const FRESH: Duration = Duration::from_secs(60);

/// Answers that are kept: more than a machine's users, and a few megabytes.
const KEPT: usize = 1 << 16;

/// Bytes for an entry of the database; larger ones get more.
const ENTRY: usize = 1 << 10;

/// No entry is larger: a group has many members.
const LARGEST: usize = 16 << 20;

/// When which id was answered, if any.
type Answers = HashMap<(Which, Box<str>), (Instant, Option<u32>)>;

/// What was answered.
static ANSWERS: Mutex<Option<Answers>> = Mutex::new(None);

/// Of which of the two something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    Users,
    Groups,
}

/// The id of a user, by name or number.
pub fn user(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| user_named(name))
}

/// The id of a group, by name or number.
pub fn group(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| group_named(name))
}

/// The id of the user of this name: nothing for a number, which somebody else may have chosen.
pub fn user_named(name: &str) -> Option<u32> {
    named(Which::Users, name, ask)
}

/// The same of a group.
pub fn group_named(name: &str) -> Option<u32> {
    named(Which::Groups, name, ask)
}

/// What is known of a user without asking: `None` where somebody would have to ask.
pub fn known_user(name: &str) -> Option<Option<u32>> {
    known(Which::Users, name, FRESH)
}

/// The same of a group.
pub fn known_group(name: &str) -> Option<Option<u32>> {
    known(Which::Groups, name, FRESH)
}

fn answers() -> MutexGuard<'static, Option<Answers>> {
    ANSWERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn known(which: Which, name: &str, fresh: Duration) -> Option<Option<u32>> {
    let answers = answers();
    let (since, id) = answers.as_ref()?.get(&(which, name.into()))?;
    (since.elapsed() < fresh).then_some(*id)
}

/// What is known, else what `ask` answers. Where that fails, the last answer counts, however old.
fn named(which: Which, name: &str, ask: fn(Which, &str) -> Result<Option<u32>, ()>) -> Option<u32> {
    if let Some(id) = known(which, name, FRESH) {
        return id;
    }
    let Ok(id) = ask(which, name) else { return known(which, name, Duration::MAX).flatten() };
    let mut answers = answers();
    let answers = answers.get_or_insert_default();
    if answers.len() >= KEPT {
        answers.clear();
    }
    answers.insert((which, name.into()), (Instant::now(), id));
    id
}

/// What the machine says, which may ask a network. `Err` when it could not be asked.
fn ask(which: Which, name: &str) -> Result<Option<u32>, ()> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    let mut text = vec![0; ENTRY];
    loop {
        let answer = match which {
            Which::Users => look_up(libc::getpwnam_r, &name, &mut text, |user: &libc::passwd| user.pw_uid),
            Which::Groups => look_up(libc::getgrnam_r, &name, &mut text, |group: &libc::group| group.gr_gid),
        };
        match answer {
            Err(libc::ERANGE) if text.len() < LARGEST => text.resize(text.len().saturating_mul(4), 0),
            // POSIX leaves open how a name that nobody has is told; these are all that systems answer.
            Err(0 | libc::ENOENT | libc::ESRCH | libc::EPERM | libc::EBADF) => return Ok(None),
            Err(_) => return Err(()),
            Ok(id) => return Ok(id),
        }
    }
}

type Lookup<T> = unsafe extern "C" fn(*const c_char, *mut T, *mut c_char, usize, *mut *mut T) -> c_int;

/// One call of `getpwnam_r` or its like, which writes what the entry points to into `text`.
fn look_up<T>(
    call: Lookup<T>,
    name: &CStr,
    text: &mut [c_char],
    id: fn(&T) -> u32,
) -> Result<Option<u32>, c_int> {
    let mut entry = std::mem::MaybeUninit::<T>::uninit();
    let mut found = std::ptr::null_mut();
    // SAFETY: the name ends in NUL, `text` is as long as is said, and all three outlive the call.
    let code =
        unsafe { call(name.as_ptr(), entry.as_mut_ptr(), text.as_mut_ptr(), text.len(), &raw mut found) };
    if code != 0 {
        return Err(code);
    }
    // SAFETY: it is null, or points to `entry`, which then was filled in.
    Ok(unsafe { found.as_ref() }.map(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!((user("root"), group("root")), (Some(0), Some(0)));
        assert_eq!((user("4711"), group("4711")), (Some(4711), Some(4711)));
        assert_eq!((user("no such user"), group("no such group")), (None, None));
        assert_eq!(user("with\0nul"), None);
        assert_eq!((user_named("root"), group_named("root")), (Some(0), Some(0)));
        assert_eq!((user_named("0"), group_named("0")), (None, None));
    }

    #[test]
    fn answers_are_kept_and_users_are_no_groups() {
        let name = "kept as a user only";
        assert_eq!((known_user(name), known_group(name)), (None, None));
        assert_eq!(named(Which::Users, name, |_, _| Ok(Some(7))), Some(7));
        assert_eq!(named(Which::Users, name, |_, _| Ok(Some(8))), Some(7), "not asked again");
        assert_eq!((known_user(name), known_group(name)), (Some(Some(7)), None));
        let nobody = "nobody is called so";
        assert_eq!(named(Which::Groups, nobody, |_, _| Ok(None)), None);
        assert_eq!(known_group(nobody), Some(None), "that, too, is an answer");
    }

    #[test]
    fn who_cannot_be_asked_has_said_nothing() {
        let name = "asked in vain";
        assert_eq!(named(Which::Users, name, |_, _| Err(())), None);
        assert_eq!(known_user(name), None);
        assert_eq!(named(Which::Users, name, |_, _| Ok(Some(9))), Some(9));
    }

    #[test]
    fn nobody_waits_for_another_s_answer() {
        let slow = |_, name: &str| {
            // Would never end if the first held what the second needs.
            if name == "first of two" {
                named(Which::Users, "second of two", |_, _| Ok(Some(2)));
            }
            Ok(Some(1))
        };
        assert_eq!(named(Which::Users, "first of two", slow), Some(1));
        assert_eq!(known_user("second of two"), Some(Some(2)));
    }

    #[test]
    fn an_entry_that_needs_more_room_is_read_with_more() {
        let name = CString::new("root").unwrap();
        let id = |user: &libc::passwd| user.pw_uid;
        assert_eq!(look_up(libc::getpwnam_r, &name, &mut [0; 1], id), Err(libc::ERANGE));
        assert_eq!(look_up(libc::getpwnam_r, &name, &mut [0; ENTRY], id), Ok(Some(0)));
    }
}
