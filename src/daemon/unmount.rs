//! Ends a mount from outside: the way that `backupfs umount` goes.

use std::path::Path;

use super::holders::{self, Holder};
use super::mountpoint;
use super::ours;
use crate::error::{Error, Kind, Result};
use crate::fuse;

/// Unmounts our mount at `typed`; `lazy` detaches a busy one. Errors: `Unavailable` when busy, naming by whom; `Invalid`
/// when nothing of ours is mounted there.
pub fn unmount(typed: &Path, lazy: bool) -> Result<()> {
    let mountpoint = mountpoint::absolute(typed)?;
    let shown = mountpoint.display();
    if ours::seen_at(&mountpoint)?.is_none() {
        return Err(Error::new(Kind::Invalid, format!("no backups are mounted at {shown}")));
    }
    fuse::unmount(&mountpoint, lazy).map_err(|error| match busy(&mountpoint, &holders::of(&mountpoint)) {
        _ if error.kind() == Kind::Invalid => Error::new(
            Kind::Denied,
            format!("{shown} was mounted by another user, who alone can unmount it, or root"),
        ),
        Some(message) => Error::new(Kind::Unavailable, message),
        None => error,
    })
}

/// Takes away what is mounted at `typed` if it is ours and its server has died. Errors: it cannot be unmounted.
pub fn remove_dead(typed: &Path) -> Result<()> {
    let mountpoint = mountpoint::absolute(typed)?;
    while ours::seen_at(&mountpoint)?.is_some() && ours::is_dead(&mountpoint) {
        fuse::unmount(&mountpoint, true)?;
    }
    Ok(())
}

/// At most this many processes are named.
const NAMED: usize = 5;

/// That `mountpoint` is busy, and by whom; `None` when nobody is seen to use it.
fn busy(mountpoint: &Path, holders: &[Holder]) -> Option<String> {
    if holders.is_empty() {
        return None;
    }
    let named = holders.iter().take(NAMED);
    let mut by: Vec<String> =
        named.map(|h| format!("{} (pid {}, {})", h.command, h.pid, h.what.display())).collect();
    if holders.len() > NAMED {
        by.push(format!("{} more", holders.len() - NAMED));
    }
    Some(format!(
        "{} is busy, used by {}; umount -l detaches it all the same",
        mountpoint.display(),
        by.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: u32) -> Holder {
        Holder { pid, command: "bash".into(), what: "/mnt/b/dir".into() }
    }

    #[test]
    fn a_busy_mount_names_its_users() {
        let mountpoint = Path::new("/mnt/b");
        assert_eq!(busy(mountpoint, &[]), None);
        assert_eq!(
            busy(mountpoint, &[holder(7)]).unwrap(),
            "/mnt/b is busy, used by bash (pid 7, /mnt/b/dir); umount -l detaches it all the same"
        );
        let many: Vec<Holder> = (1..=8).map(holder).collect();
        let message = busy(mountpoint, &many).unwrap();
        assert!(
            message.contains("pid 5") && !message.contains("pid 6") && message.contains(", 3 more;"),
            "{message}"
        );
    }

    #[test]
    fn what_is_not_mounted_is_not_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        let error = unmount(dir.path(), false).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("no backups are mounted at"), "{error}");
        assert_eq!(unmount(&dir.path().join("absent"), false).unwrap_err().kind(), Kind::NotFound);
    }
}
