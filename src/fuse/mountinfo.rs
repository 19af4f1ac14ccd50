//! What is mounted where, read from `/proc/self/mountinfo` and never by touching a mountpoint, except by [`is_dead`].

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// The file system type of our mounts.
pub const FSTYPE: &str = "fuse.backupfs";

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Number of the mount, unique while it lives.
    pub id: u64,
    /// Device number of its file system, as `major:minor`.
    pub device: String,
    /// Where it is mounted, as seen from this process's root.
    pub mountpoint: PathBuf,
    /// File system type, with its subtype.
    pub fstype: String,
    /// The source column.
    pub source: OsString,
    /// Options of the mount and of its file system, comma-separated.
    pub options: String,
}

/// Everything mounted in this mount namespace, in order: a later entry at the same place covers the earlier ones.
pub fn mounts() -> Result<Vec<MountEntry>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = std::fs::read(TABLE).map_err(|e| Error::caused_by(Kind::System, TABLE, e))?;
    Ok(parse(&table))
}

/// The entries of such a table.
pub fn parse(table: &[u8]) -> Vec<MountEntry> {
    table.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

/// What is on top at `path`, which must be absolute and free of links, as the table shows it.
pub fn mounted_at(path: &Path) -> Result<Option<MountEntry>> {
    Ok(mounts()?.into_iter().rfind(|m| m.mountpoint == path))
}

/// The mount on which `path` lies, which must be absolute, as the table shows it: links are not followed.
pub fn mount_of(path: &Path) -> Result<Option<MountEntry>> {
    let above = mounts()?.into_iter().filter(|mount| path.starts_with(&mount.mountpoint));
    // Of several at one place the last covers the others.
    Ok(above.max_by_key(|mount| mount.mountpoint.as_os_str().len()))
}

/// Whether a mount of ours lies at `path` whose daemon has gone. Asks the mount, and so may block where a daemon lives
/// but does not answer.
pub fn is_dead(path: &Path) -> Result<bool> {
    if mounted_at(path)?.is_none_or(|m| m.fstype != FSTYPE) {
        return Ok(false);
    }
    // Unlike attributes, the answer to statfs is never cached by the kernel.
    Ok(rustix::fs::statfs(path).is_err_and(|errno| errno == rustix::io::Errno::NOTCONN))
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, with any number of fields before
/// the dash. Lines of another shape are left out: the kernel writes none.
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&b| b == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let device = text(fields.nth(1)?);
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mount_options = text(fields.next()?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = text(&unescape(fields.next()?));
    let source = OsString::from_vec(unescape(fields.next()?));
    let options = format!("{mount_options},{}", text(fields.next().unwrap_or_default()));
    Some(MountEntry { id, device, mountpoint, fstype, source, options })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// A name as it was before it came into a table of mounts or fstab.
///
/// The kernel writes space, tab, newline and backslash (and `#` in sources) as a backslash and three octal digits.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, octal(tail)) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..3)?;
    let mut value = 0u8;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 8)?;
        value = value.checked_mul(8)?.checked_add(digit)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ours_is_read_in_full() {
        let line = b"641 29 0:58 / /mnt/back\\040ups\\134x ro,nosuid,nodev,noatime shared:7 master:1 - \
            fuse.backupfs my\\040repo\\043\\011a ro,user_id=0,group_id=0,default_permissions,allow_other";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.id, 641);
        assert_eq!(entry.device, "0:58");
        assert_eq!(entry.mountpoint, PathBuf::from("/mnt/back ups\\x"));
        assert_eq!(entry.fstype, FSTYPE);
        assert_eq!(entry.source, "my repo#\ta");
        assert!(entry.options.starts_with("ro,nosuid,nodev,noatime,ro,"), "{}", entry.options);
        assert!(entry.options.ends_with(",allow_other"), "{}", entry.options);
    }

    #[test]
    fn lines_without_optional_fields_and_names_that_are_not_utf8() {
        let entry = parse_line(b"22 1 0:21 / /pr\xffoc rw - proc proc rw").unwrap();
        assert_eq!(entry.mountpoint, PathBuf::from(OsString::from_vec(b"/pr\xffoc".to_vec())));
        assert_eq!((entry.fstype.as_str(), entry.source.to_str()), ("proc", Some("proc")));
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"22 1 0:21"), None);
    }

    #[test]
    fn only_complete_octal_escapes_are_decoded() {
        assert_eq!(unescape(b"a\\040b"), b"a b");
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"\\089"), b"\\089");
        assert_eq!(unescape(b"\\777"), b"\\777");
        assert_eq!(unescape(b"\\134040"), b"\\040");
    }

    #[test]
    fn this_machine_has_a_proc_and_it_is_no_dead_mount_of_ours() {
        let proc = mounted_at(Path::new("/proc")).unwrap().unwrap();
        assert_eq!(proc.fstype, "proc");
        assert!(!is_dead(Path::new("/proc")).unwrap());
        assert!(!is_dead(Path::new("/no/such/place")).unwrap());
    }
}
