//! Users and groups of this machine, by name or number.

use std::ffi::CString;
use std::sync::{Mutex, PoisonError};

/// The C library answers from one static buffer.
static DATABASE: Mutex<()> = Mutex::new(());

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
    let name = CString::new(name).ok()?;
    let _lock = DATABASE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the name is NUL-terminated; the lock keeps every other call away until the answer is copied.
    let entry = unsafe { libc::getpwnam(name.as_ptr()).as_ref() };
    entry.map(|entry| entry.pw_uid)
}

/// The same of a group.
pub fn group_named(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let _lock = DATABASE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: as above.
    let entry = unsafe { libc::getgrnam(name.as_ptr()).as_ref() };
    entry.map(|entry| entry.gr_gid)
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
}
