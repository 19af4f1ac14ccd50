//! What the kernel offers a mount, heard from its first request and not answered.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use fuser::InitFlags;

use super::mount::{Device, mount, unmount};
use super::options::MountSpec;
use crate::error::{Error, Kind, Result};

/// What the kernel offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its protocol is 7.this.
    pub minor: u32,
    /// Of what makes mounts faster or more exact, in words: what is there.
    pub has: Vec<&'static str>,
    /// And what is not.
    pub lacks: Vec<&'static str>,
}

/// What is made use of where it is there.
const USED: &[(InitFlags, &str)] = &[
    (InitFlags::FUSE_PARALLEL_DIROPS, "parallel look-ups"),
    (InitFlags::FUSE_DO_READDIRPLUS, "listings with attributes"),
    (InitFlags::FUSE_CACHE_SYMLINKS, "kept symbolic links"),
    (InitFlags::FUSE_EXPORT_SUPPORT, "handles"),
    (InitFlags::FUSE_NO_OPEN_SUPPORT, "opens without a request"),
    (InitFlags::FUSE_POSIX_ACL, "ACLs"),
    (InitFlags::FUSE_PASSTHROUGH, "passthrough"),
];

/// The kernel's number of the first request.
const INIT: u32 = 26;

/// Mounts at `place`, an empty directory of the caller's own, hears what the kernel offers, and unmounts. Whoever looks
/// at `place` meanwhile gets an error. Errors: as [`mount`]; nothing is mounted in the end.
pub fn offered(place: &Path) -> Result<Offered> {
    let spec = MountSpec { source: "doctor".into(), allow_other: false, noexec: true };
    let Device { fd, .. } = mount(place, &spec)?;
    let mut request = vec![0; 64 << 10];
    let heard = File::from(fd).read(&mut request);
    // The descriptor is closed by now, so nobody waits for an answer any more.
    unmount(place, true)?;
    let length = heard.map_err(|e| Error::caused_by(Kind::System, "the kernel's first request", e))?;
    parsed(request.get(..length).unwrap_or_default())
        .ok_or_else(|| Error::new(Kind::System, "the kernel's first request is not one that FUSE knows"))
}

/// Reads `fuse_in_header` and `fuse_init_in` of linux/fuse.h; numbers are the machine's.
fn parsed(request: &[u8]) -> Option<Offered> {
    let word = |at: usize| Some(u32::from_ne_bytes(request.get(at..at + 4)?.try_into().ok()?));
    if word(4)? != INIT {
        return None;
    }
    let (minor, low) = (word(44)?, word(52)?);
    // Older kernels end here.
    let high = word(56).unwrap_or(0);
    let flags = InitFlags::from_bits_truncate(u64::from(low) | u64::from(high) << 32);
    let (has, lacks): (Vec<_>, Vec<_>) = USED.iter().partition(|(flag, _)| flags.contains(*flag));
    let words = |list: Vec<&(InitFlags, &'static str)>| list.into_iter().map(|(_, word)| *word).collect();
    Some(Offered { minor, has: words(has), lacks: words(lacks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, flags: InitFlags, words: usize) -> Vec<u8> {
        let bits = flags.bits();
        let mut all = [0u32; 26];
        (all[1], all[10], all[11]) = (opcode, 7, 45);
        (all[13], all[14]) = ((bits & 0xffff_ffff) as u32, (bits >> 32) as u32);
        all[..words].iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn the_first_request_tells_what_there_is() {
        let flags = InitFlags::FUSE_PASSTHROUGH | InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_INIT_EXT;
        let found = parsed(&request(INIT, flags, 26)).unwrap();
        assert_eq!((found.minor, found.has.as_slice()), (45, &["ACLs", "passthrough"][..]));
        assert_eq!(found.lacks.len() + found.has.len(), USED.len());
        let old = parsed(&request(INIT, flags, 14)).unwrap();
        assert_eq!(old.has, ["ACLs"]);
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(parsed(&request(3, InitFlags::empty(), 26)), None);
        for words in 0..13 {
            assert_eq!(parsed(&request(INIT, InitFlags::empty(), words)), None, "{words}");
        }
    }

    #[test]
    fn a_trial_leaves_nothing_mounted() {
        let dir = tempfile::tempdir().unwrap();
        match offered(dir.path()) {
            Ok(found) => assert!(found.minor >= 31, "{found:?}"),
            Err(error) => eprintln!("skipped: {error}"),
        }
        let path = std::fs::canonicalize(dir.path()).unwrap();
        assert_eq!(super::super::mounted_at(&path).unwrap(), None);
    }
}
