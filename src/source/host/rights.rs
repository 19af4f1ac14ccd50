//! What takes rights that whoever serves may have given up: attributes of `trusted.`, which the kernel shows to
//! CAP_SYS_ADMIN alone.

use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::beneath;
use super::xattrs::{self, Way};
use crate::tree::TRUSTED_XATTRS as TRUSTED;

/// Who has the rights. Each call blocks, and is about what lies in an open directory, or about the directory itself where
/// the name is empty. Errors: as the system calls have them, and `PERM` where nobody answers.
pub trait Rights: Send + Sync {
    /// The names of the entries of a directory that have attributes of `trusted.`, wherever in it somebody has read to.
    fn entries(&self, dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>>;

    /// The names of the attributes of `trusted.` of one entry.
    fn names(&self, dir: BorrowedFd<'_>, entry: &[u8]) -> rustix::io::Result<Vec<Vec<u8>>>;

    /// The value of one of them.
    fn value(&self, dir: BorrowedFd<'_>, entry: &[u8], name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>>;
}

/// By asking the kernel.
pub struct Own;

impl Rights for Own {
    fn entries(&self, dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
        // Whoever was asked before may have died on the way, and has left its position.
        rustix::fs::seek(dir, SeekFrom::Start(0))?;
        let (mut way, mut found) = (Way::into(dir), Vec::new());
        beneath::visit(dir, |name, _| {
            // What cannot be asked now is asked about by itself, and that fails as it should.
            if way.has_any(name) && trusted(&mut way, name).map_or(true, |names| !names.is_empty()) {
                found.push(name.to_vec());
            }
        })?;
        Ok(found)
    }

    fn names(&self, dir: BorrowedFd<'_>, entry: &[u8]) -> rustix::io::Result<Vec<Vec<u8>>> {
        trusted(&mut Way::into(dir), plain(entry)?)
    }

    fn value(&self, dir: BorrowedFd<'_>, entry: &[u8], name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        if !name.starts_with(TRUSTED) {
            return Err(Errno::PERM);
        }
        xattrs::value(Way::into(dir).to(plain(entry)?), name)
    }
}

/// The name of something in a directory, and of nothing elsewhere.
fn plain(entry: &[u8]) -> rustix::io::Result<&[u8]> {
    let leads_away = entry == b"." || entry == b".." || entry.iter().any(|byte| matches!(byte, b'/' | 0));
    if leads_away { Err(Errno::INVAL) } else { Ok(entry) }
}

fn trusted(way: &mut Way, entry: &[u8]) -> rustix::io::Result<Vec<Vec<u8>>> {
    let list = xattrs::list(way.to(entry))?;
    let names = list.split(|byte| *byte == 0).filter(|name| name.starts_with(TRUSTED));
    Ok(names.map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use rustix::fs::{XattrFlags, lsetxattr};

    use super::*;

    #[test]
    fn only_what_is_trusted_is_told_and_nothing_of_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["has", "has-not", "other"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let set =
            |entry: &str, name: &str| lsetxattr(dir.path().join(entry), name, b"v", XattrFlags::empty());
        if set("has", "trusted.a").is_err() || set("has", "user.b").is_err() {
            eprintln!("skipped: no attributes of trusted. can be made here");
            return;
        }
        set("other", "user.b").unwrap();
        set("", "trusted.top").unwrap();
        let open = File::open(dir.path()).unwrap();
        let dir = || open.as_fd();
        assert_eq!(Own.entries(dir()).unwrap(), [b"has"]);
        assert_eq!(Own.names(dir(), b"has").unwrap(), [b"trusted.a"]);
        assert_eq!(Own.names(dir(), b"").unwrap(), [b"trusted.top"]);
        assert!(Own.names(dir(), b"other").unwrap().is_empty());
        assert_eq!(Own.value(dir(), b"has", b"trusted.a").unwrap().unwrap(), b"v");
        assert_eq!(Own.value(dir(), b"has", b"trusted.no").unwrap(), None);
        assert_eq!(Own.value(dir(), b"has", b"user.b"), Err(Errno::PERM));
        for outside in [&b"../x"[..], b"..", b".", b"a\0b", b"/etc/passwd"] {
            assert_eq!(Own.names(dir(), outside), Err(Errno::INVAL), "{outside:?}");
            assert_eq!(Own.value(dir(), outside, b"trusted.a"), Err(Errno::INVAL), "{outside:?}");
        }
        assert_eq!(Own.entries(open.as_fd()).unwrap(), [b"has"], "a second time too");
    }
}
