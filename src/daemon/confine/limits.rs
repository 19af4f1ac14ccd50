//! What the serving process is to reach on this machine, as the configuration has it: known before anything is opened.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use serde::{Deserialize, Serialize};

use crate::cache::Folder;
use crate::config::{self, Config, Credentials, Location, Password, SourceKind, Typed};
use crate::daemon::kind::zfs;
use crate::daemon::{mountpoint, places};
use crate::fuse;

/// Libraries load parts of themselves later: those that look up names. Zones and authorities are read now and then.
const LIBRARIES: &[&str] = &["/usr", "/lib", "/lib32", "/lib64", "/nix", "/gnu"];

/// What names, zones and certificates take, none of it secret. Never all of `/etc`: that has `shadow` and keys.
const SYSTEM: &[&str] = &[
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/timezone",
    "/proc",
    "/run/NetworkManager",
    "/run/nscd",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    "/var/lib/sss/mc",
    "/var/lib/sss/pipes",
];

const RESOLVER: &str = "/etc/resolv.conf";

/// Variables by which Amazon's chain of credentials is led to files.
const FILES_OF_AWS: &[&str] = &[
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

/// What may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// To be read, with all below; what is not there is no loss.
    pub read: Vec<OsString>,
    /// To be written to.
    pub write: Vec<OsString>,
    /// Something of it belongs to others than whoever mounts.
    pub search: bool,
    /// Reading it would change times of last access, unless whoever reads has CAP_FOWNER.
    pub touches: bool,
    /// Why the kernel cannot be told what may be reached: it is not known.
    pub unknown: Option<String>,
}

impl Limits {
    /// Of `config`, whose passwords were not read yet.
    pub fn of(config: &Config, typed: &Typed) -> Self {
        let places = places::of(config);
        let is_tree = |place: &PathBuf| {
            let trees = config.sources.iter().filter(|source| source.kind == SourceKind::Directory);
            trees.filter_map(config::Source::local_place).any(|tree| tree == *place)
        };
        let of_place =
            |place: &PathBuf| with_links(place, if is_tree(place) { Links::Shown } else { Links::Followed });
        let mut read: Vec<PathBuf> = places.iter().flat_map(of_place).collect();
        let of_zfs: Vec<_> = config.sources.iter().filter(|source| source.kind == SourceKind::Zfs).collect();
        if !of_zfs.is_empty() {
            // What is not there cannot be let in. Whoever makes clones tells why it cannot be made.
            let _ = Folder::open(&zfs::folder());
            read.push(zfs::folder());
        }
        // A dataset that is mounted later is looked at by clones.
        let mounted = of_zfs.iter().flat_map(|source| zfs::mountpoints(source));
        read.extend(mounted.map(|place| removable(&place).unwrap_or(place)));
        let files = files(config);
        let search = !places.is_empty() || !of_zfs.is_empty() || files.iter().any(|file| is_of_others(file));
        read.extend(files.iter().map(|file| stable(file)));
        let configured = if config.is_from_files { config::files_of(typed) } else { Vec::new() };
        for file in configured {
            read.push(stable(&file));
            read.extend(file.parent().map(|above| above.join("conf.d")));
        }
        read.extend(SYSTEM.iter().chain(LIBRARIES).map(PathBuf::from));
        read.sort();
        read.dedup();
        let write = config.cache_dir.iter().map(|dir| dir.as_os_str().to_owned()).collect();
        let read = read.into_iter().map(OsString::from).collect();
        let touches = places.iter().any(|place| is_tree(place) && touches(place));
        Limits { read, write, search, touches, unknown: unknown(config) }
    }

    /// Whether what lies at `path` may be read.
    pub fn allow(&self, path: &Path) -> bool {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let path = real(path);
        self.unknown.is_some() || self.read.iter().any(|allowed| path.starts_with(real(Path::new(allowed))))
    }
}

/// Why what `config` leads to is not known before it is read.
fn unknown(config: &Config) -> Option<String> {
    let groups = config.groups.iter();
    let by_group = groups.filter(|group| group.list.is_some() || group.has_member_passwords);
    let by_group =
        by_group.map(|group| format!("{}: what its members need is known when they are listed", group.title));
    let located = |location: Location, title: &str| match location {
        Location::Sftp(_) => Some(format!("{title}: ssh reads what its own configuration names")),
        Location::Rclone(_) => Some(format!("{title}: rclone reads what its own configuration names")),
        Location::S3(_) if has_credential_process() => {
            Some(format!("{title}: a credential_process of Amazon's configuration is executed"))
        }
        Location::S3(_) | Location::Rest(_) if resolver_is_replaced() => {
            Some(format!("{title}: {RESOLVER} is replaced by another file when name servers change"))
        }
        _ => None,
    };
    let sources = config.sources.iter().flat_map(|source| {
        let hot = source.hot.clone();
        std::iter::once(source.location.clone())
            .chain(hot)
            .filter_map(|location| located(location, &source.title))
            .collect::<Vec<_>>()
    });
    let of_groups = config.groups.iter().flat_map(|group| {
        let located = |location| located(location, &group.title);
        group.locations().into_iter().filter_map(located).collect::<Vec<_>>()
    });
    by_group.chain(sources).chain(of_groups).next()
}

/// Whether whoever changes name servers puts another file in the place of this one, which a rule about the old would not
/// let in. Where it is a link, what it leads to has a directory of its own.
fn resolver_is_replaced() -> bool {
    fs::canonicalize(RESOLVER).is_ok_and(|path| path.parent() == Some(Path::new("/etc")))
}

fn has_credential_process() -> bool {
    let named = std::env::var_os("AWS_CONFIG_FILE").map(PathBuf::from);
    let path = named.or_else(|| Some(home()?.join(".aws/config")));
    path.and_then(|path| fs::read_to_string(path).ok())
        .is_some_and(|text| text.contains("credential_process"))
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}

/// Files that the configuration names, or whose place is fixed: passwords, certificates, Amazon's.
fn files(config: &Config) -> Vec<PathBuf> {
    let of_place = |credentials: &Credentials| {
        let tls = &credentials.tls;
        [tls.ca.clone(), tls.client_cert.clone()].into_iter().flatten()
    };
    let credentials =
        config.sources.iter().map(|s| &s.credentials).chain(config.groups.iter().map(|g| &g.credentials));
    let mut files: Vec<PathBuf> = credentials.flat_map(of_place).collect();
    files.extend(config.secrets().filter_map(|secret| secret.file().map(Path::to_owned)));
    let sources = config.sources.iter().map(|source| source.location.clone());
    let mut locations = sources.chain(config.groups.iter().flat_map(config::Group::locations));
    if locations.any(|location| matches!(location, Location::S3(_))) {
        files.extend(home().map(|home| home.join(".aws/config")));
        files.extend(FILES_OF_AWS.iter().filter_map(|name| std::env::var_os(name).map(PathBuf::from)));
    }
    files.retain(|file| file.is_absolute());
    files
}

/// What stands for a file that may be replaced by another of the same name: its directory, where that has nothing else
/// to hide.
fn stable(file: &Path) -> PathBuf {
    let Some(above) = file.parent() else { return file.to_owned() };
    let is_broad = above.components().count() < 3
        || Some(above) == home().as_deref()
        || above.parent() == Some(Path::new("/home"));
    if is_broad { file.to_owned() } else { above.to_owned() }
}

/// Whether only its owner, who is somebody else, may read a file.
fn is_of_others(file: &Path) -> bool {
    fs::metadata(file)
        .is_ok_and(|found| found.uid() != rustix::process::geteuid().as_raw() && found.mode() & 0o004 == 0)
}

/// What is done with the symbolic links in a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    /// Parts of a repository may have been moved to another disk.
    Followed,
    /// They are somebody's files.
    Shown,
}

/// A place, and where those of its links lead that are followed.
fn with_links(place: &Path, kind: Links) -> Vec<PathBuf> {
    if let Some(above) = removable(place) {
        return vec![above];
    }
    let owned = place.to_owned();
    // A file system that hangs keeps nobody waiting.
    let linked = (kind == Links::Followed)
        .then(|| mountpoint::in_time(move || [links(&owned), links(&owned.join("data"))].concat()));
    let mut all: Vec<PathBuf> = linked.flatten().unwrap_or_default();
    let owned = place.to_owned();
    all.extend(mountpoint::in_time(move || existing(&owned)).or_else(|| Some(place.to_owned())));
    all
}

/// Whether reading what others own at a place changes when it was read last. Taken for granted where that hangs.
fn touches(place: &Path) -> bool {
    let still = StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOATIME;
    let owned = place.to_owned();
    let found = mountpoint::in_time(move || rustix::fs::statvfs(&owned).ok()).flatten();
    found.is_none_or(|found| !found.f_flag.intersects(still))
}

/// A place, or where it is not there yet, what is there above it and has nothing else to hide.
fn existing(place: &Path) -> PathBuf {
    let above = place.ancestors().find(|above| above.exists()).unwrap_or(place);
    let is_broad = ["/", "/etc", "/root"].iter().any(|broad| above == Path::new(broad));
    if is_broad { place.to_owned() } else { above.to_owned() }
}

/// The directory that holds the mountpoint of the file system on which a place lies: one that is mounted later, or anew,
/// is let in by nothing else. `None` where that would be everything.
fn removable(place: &Path) -> Option<PathBuf> {
    let mount = fuse::mount_of(place).ok()??.mountpoint;
    let above = mount.parent()?;
    (above != Path::new("/")).then(|| above.to_owned())
}

fn links(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let links = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    links.filter_map(|link| fs::canonicalize(link.path()).ok()).collect()
}

/// What of a configuration's new parts a running mount may not reach, if anything.
pub fn outside(limits: &Limits, new: &Config) -> Option<String> {
    if limits.unknown.is_some() {
        return None;
    }
    if let Some(why) = unknown(new) {
        return Some(why);
    }
    if new.secrets().any(Password::is_command) {
        return Some("what a password-command reads".to_owned());
    }
    let wanted = places::of(new).into_iter().chain(files(new));
    wanted.filter(|path| !limits.allow(path)).map(|path| path.display().to_string()).next()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn config(repos: &[&str]) -> Config {
        let repos = repos.iter().map(OsString::from).collect();
        config::resolve(&Typed { repos, ..Typed::default() }).unwrap()
    }

    #[test]
    fn a_repository_is_let_in_with_what_its_links_lead_to_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(dir.path()).unwrap();
        for name in ["repo/data", "disk/packs", "disk/aa", "other"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        symlink(dir.join("disk/packs"), dir.join("repo/packs")).unwrap();
        symlink(dir.join("disk/aa"), dir.join("repo/data/aa")).unwrap();
        let limits = Limits::of(&config(&[dir.join("repo").to_str().unwrap()]), &Typed::default());
        if removable(&dir).is_none() {
            for (name, allowed) in [
                ("repo/config", true),
                ("disk/packs", true),
                ("disk/aa/x", true),
                ("other", false),
                ("disk", false),
            ] {
                assert_eq!(limits.allow(&dir.join(name)), allowed, "{name}");
            }
        }
        assert!(!limits.allow("/etc/shadow".as_ref()) && limits.allow("/etc/hosts".as_ref()));
        assert!(limits.search && !limits.touches && limits.unknown.is_none());
        let clones = Limits::of(&config(&["zfs:tank/a"]), &Typed::default());
        assert!(clones.search && !clones.touches && clones.unknown.is_none());
        assert!(clones.allow(&zfs::folder().join("x")) && !clones.allow("/etc/shadow".as_ref()));
        let trees = format!("directory:{}/disk/{{time}}", dir.display());
        let limits = Limits::of(&config(&[&trees]), &Typed::default());
        assert!(limits.search && limits.unknown.is_none());
        let flags = rustix::fs::statvfs(&dir).unwrap().f_flag;
        let still = StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOATIME;
        assert_eq!(limits.touches, !flags.intersects(still));
        assert!(limits.allow(&dir.join("disk/aa")) && !limits.allow("/etc/shadow".as_ref()));
        symlink("/etc", dir.join("disk/20260301")).unwrap();
        assert_eq!(Limits::of(&config(&[&trees]), &Typed::default()), limits, "a link is shown");
    }

    #[test]
    fn what_comes_later_is_let_in_by_what_is_there_above_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing(&dir.path().join("later/repository")), dir.path());
        assert_eq!(existing("/later/repository".as_ref()), Path::new("/later/repository"));
        assert_eq!(existing("/etc/later".as_ref()), Path::new("/etc/later"));
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        for (repo, says) in [("sftp:host:/a", "ssh reads"), ("rclone:r:a", "rclone reads")] {
            let limits = Limits::of(&config(&[repo]), &Typed::default());
            assert!(limits.unknown.as_ref().is_some_and(|why| why.contains(says)), "{repo}: {limits:?}");
            assert!(limits.allow("/etc/shadow".as_ref()), "nothing is kept from it");
        }
    }

    #[test]
    fn what_comes_later_must_lie_within() {
        let limits = Limits { read: vec!["/srv/a".into()], ..Limits::default() };
        assert_eq!(outside(&limits, &config(&["/srv/a/b"])), None);
        assert_eq!(outside(&limits, &config(&["/srv/b"])).as_deref(), Some("/srv/b"));
        assert!(outside(&limits, &config(&["rclone:r:a"])).is_some());
        let unknown = Limits { unknown: Some("x".into()), ..Limits::default() };
        assert_eq!(outside(&unknown, &config(&["/srv/b"])), None);
    }

    #[test]
    fn files_are_let_in_with_their_directory_unless_that_holds_more() {
        for (file, allowed) in [
            ("/etc/password", "/etc/password"),
            ("/srv/keys/password", "/srv/keys"),
            ("/home/u/password", "/home/u/password"),
            ("/password", "/password"),
        ] {
            assert_eq!(stable(file.as_ref()), Path::new(allowed), "{file}");
        }
    }
}
