//! ZFS: its programs, and where clones are mounted.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Opener;
use crate::cache::Folder;
use crate::config::{self, Location};
use crate::daemon::broker::Steward;
use crate::daemon::keep::Common;
use crate::daemon::programs;
use crate::error::{Context, Error, Kind, Result};
use crate::source::names::Times;
use crate::source::zfs::{self, Dataset, Hands, Layout, Means, Own, Spec, Tool};
use crate::store::program::Program;
use crate::{fuse, namespace};

/// The type of its file systems in the kernel.
const FSTYPE: &str = "zfs";

/// Where Debian keeps `zfs` and `mount`, which is not in everybody's path.
const SYSTEM: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// What opens it.
pub(super) fn opener(source: &config::Source, common: &Common) -> Result<Opener> {
    let (spec, common) = (spec(source, common).context(|| source.title.clone())?, common.clone());
    Ok(Box::pin(async move {
        let opened = zfs::open(spec).await?;
        let ending = opened.clone();
        common.ends.add(Box::new(move || Box::pin(async move { ending.end().await })));
        Ok(opened as _)
    }))
}

fn spec(source: &config::Source, common: &Common) -> Result<Spec> {
    let config::Clones { idle, most, .. } = source.clones;
    let zone = source.zone.as_deref().map(namespace::zone).transpose()?;
    let hands: Arc<dyn Hands> = match &common.wardens {
        Some(wardens) => wardens.hands(source)?,
        None => Arc::new(own(&source.location, &source.clones)?),
    };
    Ok(Spec {
        name: source.title.clone(),
        layout: layout(&source.location)?,
        hands,
        folder: folder(),
        idle,
        most,
        times: Times::new(source.time_format.as_deref(), zone.unwrap_or_else(TimeZone::system))?,
        mounted_at: Arc::new(mounted_at),
        rights: common.broker.clone().map(|broker| Steward::of(broker) as _),
        shared: common.shared.clone(),
    })
}

/// What this process may do for the datasets at `place`.
pub fn own(place: &Location, clones: &config::Clones) -> Result<Own> {
    let folder = folder();
    Folder::open(&folder)?;
    own_in(place, clones, folder)
}

/// The same, with clones in `folder`.
pub fn own_in(place: &Location, clones: &config::Clones, folder: PathBuf) -> Result<Own> {
    let config::Clones { parent, most, zfs, mount, .. } = clones;
    Own::new(Means {
        layout: layout(place)?,
        parent: parent.as_deref().map(Dataset::new).transpose()?,
        tool: Tool { zfs: program(zfs), umount: program(&unmounting(mount)), mount: program(mount) },
        folder,
        is_kernel_s: Box::new(is_kernel_s),
        most: *most,
        mounted_at: Arc::new(mounted_at),
    })
}

/// The datasets of a source that are mounted, and where.
pub fn mountpoints(source: &config::Source) -> Vec<PathBuf> {
    let Ok(layout) = layout(&source.location) else { return Vec::new() };
    let is_ours = |mount: &fuse::MountEntry| {
        let dataset = mount.source.to_str().and_then(|name| Dataset::new(name).ok());
        mount.fstype.ends_with(FSTYPE) && dataset.is_some_and(|dataset| layout.shows(&dataset))
    };
    let mounts = fuse::mounts().unwrap_or_default().into_iter();
    mounts.filter(is_ours).map(|mount| mount.mountpoint).collect()
}

/// The named parts of its pattern; none of one that is wrong, which opening it tells.
pub(super) fn parts(source: &config::Source) -> Vec<String> {
    layout(&source.location).map(|layout| layout.names()).unwrap_or_default()
}

fn layout(place: &Location) -> Result<Layout> {
    match place {
        Location::Zfs(dataset) => Layout::parse(dataset),
        other => Err(Error::new(Kind::Usage, format!("{other}: is no dataset"))),
    }
}

/// A program that is called with `words`.
fn program(words: &[String]) -> Program {
    let mut words = words.iter().map(OsString::from);
    let name = words.next().unwrap_or_default();
    // What it says is read.
    let mut environment = vec![(OsString::from("LC_ALL"), OsString::from("C"))];
    environment.extend(programs::ssh().into_iter().filter(|(name, _)| name != "PATH"));
    environment.push(("PATH".into(), path()));
    Program { name, arguments: words.collect(), environment }
}

fn path() -> OsString {
    let mut path = variable("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(SYSTEM);
    path
}

fn variable(wanted: &str) -> Option<OsString> {
    programs::ssh().into_iter().find(|(name, _)| name == wanted).map(|(_, value)| value)
}

/// What unmounts, where `mount` mounts: the same, called `umount`.
fn unmounting(mount: &[String]) -> Vec<String> {
    let mut words = mount.to_vec();
    if let Some(last) = words.last_mut() {
        let above = last.rfind('/').map_or("", |slash| last.get(..=slash).unwrap_or_default());
        *last = format!("{above}umount");
    }
    words
}

/// The directory of this user alone in which clones are mounted; it need not be there.
pub fn folder() -> PathBuf {
    let uid = rustix::process::geteuid();
    match variable("XDG_RUNTIME_DIR") {
        _ if uid.is_root() => PathBuf::from("/run/backupfs/clones"),
        Some(dir) => PathBuf::from(dir).join("backupfs-clones"),
        None => std::env::temp_dir().join(format!("backupfs-clones-{}", uid.as_raw())),
    }
}

/// Whether the kernel knows ZFS. Its module is loaded wherever a pool is imported.
fn is_kernel_s() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split('\t').next_back() == Some(FSTYPE))
}

/// Where the table of mounts has a dataset.
fn mounted_at(dataset: &str) -> Option<PathBuf> {
    let mounts = fuse::mounts().ok()?.into_iter();
    let found = mounts.rev().find(|mount| mount.fstype == FSTYPE && mount.source == OsStr::new(dataset));
    found.map(|mount| mount.mountpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_mounts_also_unmounts() {
        for (mount, umount) in [
            ("mount", "umount"),
            ("sudo -n /bin/mount", "sudo -n /bin/umount"),
            ("doas mount", "doas umount"),
        ] {
            assert_eq!(unmounting(&words(mount)), words(umount));
        }
    }

    #[test]
    fn programs_speak_english_and_are_found() {
        let program = program(&words("sudo -n zfs"));
        assert_eq!((program.name, program.arguments), ("sudo".into(), vec!["-n".into(), "zfs".into()]));
        let said = |name: &str| {
            let mut found = program.environment.iter().filter(|(known, _)| known == name);
            let value = found.next().unwrap().1.to_str().unwrap().to_owned();
            assert!(found.next().is_none(), "{name} twice");
            value
        };
        assert_eq!(said("LC_ALL"), "C");
        assert!(said("PATH").ends_with("/usr/sbin:/sbin:/usr/bin:/bin"));
    }
}
