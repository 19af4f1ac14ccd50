//! Who may pass the directories above one of this machine.

use std::fs;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::stat::Stat;
use super::xattrs;
use crate::source::chunked::acl;
use crate::tree::{Ancestor, Ancestors, Identity, Validity};

/// The directories above `path` as they are now, whatever links lead there. Blocks. Unknown when one cannot be looked at.
pub fn ancestors(path: &Path) -> Ancestors {
    let Ok(path) = fs::canonicalize(path) else { return Ancestors::Unknown };
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    above.into_iter().map(ancestor).collect::<Option<_>>().map_or(Ancestors::Unknown, Ancestors::Recorded)
}

fn ancestor(path: &Path) -> Option<Ancestor> {
    let dir = fs::File::open(path).ok()?;
    let (stat, _) = Stat::of(&dir).ok()?;
    let ancestor = Ancestor::of(&stat.meta(0, Identity::Path, Validity::Forever, false));
    let granted =
        match xattrs::filled(|buffer| rustix::fs::fgetxattr(&dir, acl::ACCESS, spare_capacity(buffer))) {
            Ok(value) => acl::grants(&value),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => 0o777,
            Err(_) => return None,
        };
    Some(Ancestor { perm: ancestor.perm & granted, ..ancestor })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn they_are_told_from_the_root_on_and_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("closed/inner")).unwrap();
        fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("closed", dir.path().join("link")).unwrap();
        let Ancestors::Recorded(found) = ancestors(&dir.path().join("link/inner")) else { panic!("unknown") };
        assert_eq!(found.len(), dir.path().components().count() + 1);
        assert_eq!(found.last().unwrap().perm, 0o700);
        assert_eq!((found[0].uid, found[0].perm & 0o001), (0, 0o001), "the root");
        assert_eq!(ancestors("/".as_ref()), Ancestors::Recorded(Vec::new()));
        assert_eq!(ancestors(&dir.path().join("nowhere/inner")), Ancestors::Unknown);
    }

    #[test]
    fn an_acl_that_keeps_the_group_out_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let above = fs::File::open(dir.path().join("a")).unwrap();
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        // user::rwx user:1001:--- group::r-x mask::r-x other::r-x
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in [(1u16, 7u16, !0u32), (2, 0, 1001), (4, 5, !0), (16, 5, !0), (32, 5, !0)] {
            value.extend([tag.to_le_bytes(), perm.to_le_bytes()].as_flattened());
            value.extend(id.to_le_bytes());
        }
        let flags = rustix::fs::XattrFlags::empty();
        // Where the file system knows no ACLs there is nothing to see.
        if rustix::fs::fsetxattr(&above, acl::ACCESS, &value, flags).is_ok() {
            let Ancestors::Recorded(found) = ancestors(&dir.path().join("a/b")) else { panic!("unknown") };
            assert_eq!(found.last().unwrap().perm, 0o700, "whoever is named may be in any class");
        }
    }
}
