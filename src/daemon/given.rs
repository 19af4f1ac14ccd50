//! A mount that somebody else made: `/dev/fd/N` in the place of a mountpoint is an open `/dev/fuse` of it, as
//! mount.fuse3 gives one to who is to serve without any rights (`-o drop_privileges`).
//!
//! Until it is served nobody may look at what is mounted, this process least of all: only the table of mounts is read.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::life::{Mounter, Served};
use super::mountpoint;
use crate::error::{Error, Kind, Result};
use crate::fuse::{self, Device, MountEntry, OwnRights};

/// What comes before its number.
const PLACE: &str = "/dev/fd/";

/// What every mount of backups has.
const ALWAYS: &[&str] = &["ro", "nosuid", "nodev"];

/// A mount that waits to be served.
#[derive(Debug)]
pub struct Given {
    /// Its device.
    pub device: OwnedFd,
    /// Where it is.
    pub mountpoint: PathBuf,
    /// Others are let in.
    pub allow_other: bool,
}

impl Given {
    /// What `typed` gives, if it is no mountpoint. To be called once, by the only thread. Errors: `Usage` when it is no
    /// open `/dev/fuse` that was mounted, or was mounted with more than a mount of backups may have.
    pub fn at(typed: &Path) -> Result<Option<Self>> {
        let Some(number) = typed.to_str().and_then(|text| text.strip_prefix(PLACE)) else { return Ok(None) };
        let refused = |why: &str| Error::new(Kind::Usage, format!("{}: {why}", typed.display()));
        let number: i32 =
            number.parse().ok().filter(|number| *number > 2).ok_or_else(|| refused("no descriptor"))?;
        let opened = fs::read_link(format!("/proc/self/fd/{number}"));
        if opened.map_err(|_| refused("is not open"))? != Path::new("/dev/fuse") {
            return Err(refused("is no /dev/fuse"));
        }
        // SAFETY: it is open, as was just seen, and whoever started this process gave it for this.
        let device = unsafe { OwnedFd::from_raw_fd(number) };
        let told = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let entry = entry(fuse::mounts()?, connection(&told)).ok_or_else(|| refused("is not mounted"))?;
        let allow_other = check(&entry).map_err(|why| refused(&why))?;
        Ok(Some(Given { device, mountpoint: entry.mountpoint, allow_other }))
    }

    /// Makes sure that it overlaps none of the `places` that are read. By name alone: whoever looks at the mountpoint waits.
    pub fn check_places(&self, places: impl Iterator<Item = PathBuf>) -> Result<()> {
        let lie_in_each_other = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
        for place in places {
            let resolved =
                |place: PathBuf| mountpoint::in_time(move || fs::canonicalize(place).ok()).flatten();
            // What lies in it is not resolved: that would wait.
            let overlaps = lie_in_each_other(&self.mountpoint, &place)
                || resolved(place.clone()).is_some_and(|real| lie_in_each_other(&self.mountpoint, &real));
            if overlaps {
                return Err(mountpoint::overlapping(&self.mountpoint, &place));
            }
        }
        Ok(())
    }
}

/// The number of the connection that is told of a descriptor; kernels before 6.16 do not.
fn connection(told: &str) -> Option<u32> {
    told.lines().find_map(|line| line.strip_prefix("fuse_connection:")?.trim().parse().ok())
}

/// The mount of a connection. Where its number is not known it is the newest: it was made for this process just now.
fn entry(mounts: Vec<MountEntry>, connection: Option<u32>) -> Option<MountEntry> {
    let is_fuse = |mount: &MountEntry| mount.fstype == "fuse" || mount.fstype.starts_with("fuse.");
    let device = connection.map(|number| format!("0:{number}"));
    let mut found = mounts.into_iter().filter(is_fuse);
    match device {
        Some(device) => found.find(|mount| mount.device == device),
        None => found.max_by_key(|mount| mount.id),
    }
}

/// Whether a mount lets others in. Errors: what it has that no mount of backups may have, and what to do about it.
fn check(entry: &MountEntry) -> std::result::Result<bool, String> {
    let has = |name: &str| entry.options.split(',').any(|option| option == name);
    let missing: Vec<_> = ALWAYS.iter().filter(|name| !has(name)).copied().collect();
    if !missing.is_empty() {
        let at = entry.mountpoint.display();
        return Err(format!("{at} is mounted without {}: add that to its options", missing.join(",")));
    }
    let allow_other = has("allow_other");
    if allow_other && !has("default_permissions") {
        return Err(
            "allow_other lets everybody read everything: add default_permissions to its options".to_owned()
        );
    }
    Ok(allow_other)
}

/// Serves what was given, and leaves its end to whoever mounted it.
pub struct GivenMount(Mutex<Option<OwnedFd>>);

impl GivenMount {
    /// Of a device that is mounted.
    pub fn new(device: OwnedFd) -> Self {
        GivenMount(Mutex::new(Some(device)))
    }
}

impl Mounter for GivenMount {
    fn mount(&self) -> Result<Served> {
        let device = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let device = device.ok_or_else(|| Error::new(Kind::Internal, "the device is taken already"))?;
        let device = Device::from_fd(device);
        let rights = Arc::new(OwnRights::of(&device)?);
        Ok(Served { device, rights })
    }

    fn unmount(&self) {
        tracing::info!("the mount stays: whoever made it has the right to unmount");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, device: &str, fstype: &str, options: &str) -> MountEntry {
        MountEntry {
            id,
            device: device.into(),
            mountpoint: "/m".into(),
            fstype: fstype.into(),
            source: "x".into(),
            options: options.into(),
        }
    }

    #[test]
    fn the_mount_of_a_connection_is_found_by_its_number() {
        assert_eq!(connection("pos:\t0\nfuse_connection:\t48\n"), Some(48));
        assert_eq!(connection("pos:\t0\nflags:\t02\n"), None);
        let mounts = || {
            vec![
                mount(7, "0:48", "fuse.backupfs", ""),
                mount(9, "0:49", "fuse", ""),
                mount(10, "0:50", "fusectl", ""),
            ]
        };
        assert_eq!(entry(mounts(), Some(48)).unwrap().id, 7);
        assert_eq!(entry(mounts(), Some(50)), None);
        assert_eq!(entry(mounts(), None).unwrap().id, 9);
    }

    #[test]
    fn a_mount_must_have_no_more_than_one_of_backups() {
        let of = |options: &str| check(&mount(1, "0:1", "fuse", options));
        assert_eq!(of("ro,nosuid,nodev,relatime,rw,user_id=0"), Ok(false));
        assert_eq!(of("ro,nosuid,nodev,rw,default_permissions,allow_other"), Ok(true));
        assert!(of("rw,relatime").unwrap_err().contains("without ro,nosuid,nodev: add that"));
        assert!(of("ro,nosuid,nodev,allow_other").unwrap_err().contains("add default_permissions"));
    }

    #[test]
    fn only_an_open_device_is_taken() {
        assert!(Given::at("/mnt/b".as_ref()).unwrap().is_none());
        for (typed, says) in
            [("/dev/fd/x", "no descriptor"), ("/dev/fd/1", "no descriptor"), ("/dev/fd/999", "is not open")]
        {
            let error = Given::at(typed.as_ref()).unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (Kind::Usage, format!("{typed}: {says}")));
        }
    }

    #[test]
    fn places_in_each_other_are_refused_by_name() {
        let device = fs::File::open("/dev/null").unwrap().into();
        let given = Given { device, mountpoint: "/srv/m".into(), allow_other: false };
        for place in ["/srv/m", "/srv", "/srv/m/deep"] {
            assert!(given.check_places([PathBuf::from(place)].into_iter()).is_err(), "{place}");
        }
        given.check_places([PathBuf::from("/srv/m2")].into_iter()).unwrap();
    }
}
