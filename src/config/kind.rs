//! What made a backup, and what of a configuration has a meaning for it.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::given::Entry;
use super::location::Location;
use crate::error::{Error, Kind, Result};

/// A kind of source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceKind {
    /// Repositories of restic and rustic.
    #[default]
    Restic,
    /// Directories that hold snapshots, told by a pattern with named parts.
    Directory,
    /// Snapshots of a ZFS file system, or of several.
    Zfs,
    /// Objects of a bucket, with the versions that it keeps.
    Objects,
}

/// The words for them, which are also what a location may begin with.
pub const KINDS: &[(&str, SourceKind)] = &[
    ("directory", SourceKind::Directory),
    ("objects", SourceKind::Objects),
    ("restic", SourceKind::Restic),
    ("zfs", SourceKind::Zfs),
];

/// What only chunk repositories have. A word that ends in a dash stands for all keys that begin with it.
const OF_REPOSITORIES: &[&str] = &["cache-share", "key-hint", "members-", "password-", "repo-hot"];

/// What only places behind a network have.
const OF_NETWORKS: &[&str] = &["ca-file", "client-cert", "known-hosts", "rclone-", "rest-", "s3-", "ssh-"];

/// What only buckets have.
const OF_BUCKETS: &[&str] = &["history", "metadata"];

/// What only places behind a network have that are no buckets.
const OF_SERVERS: &[&str] = &["client-cert", "known-hosts", "rclone-", "rest-", "ssh-"];

/// What only snapshots have that somebody else gave names.
const OF_NAMES: &[&str] = &["time-format"];

/// What only ZFS has.
const OF_ZFS: &[&str] = &["clone-", "dataset", "max-clones", "mount-program", "zfs-program"];

/// Which moments of a bucket are shown as snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum History {
    /// Only what there is now.
    Off,
    /// The last change of each day that has one.
    Days,
    /// The last change of each hour that has one.
    Hours,
    /// Every change.
    Changes,
}

/// The words for them.
pub const HISTORIES: &[(&str, History)] =
    &[("none", History::Off), ("day", History::Days), ("hour", History::Hours), ("change", History::Changes)];

/// Whether objects are asked for their metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metadata {
    /// Where some of a handful have any.
    #[default]
    Auto,
    /// Always.
    All,
    /// Never.
    Off,
}

/// The words for them.
pub const METADATA: &[(&str, Metadata)] =
    &[("auto", Metadata::Auto), ("all", Metadata::All), ("none", Metadata::Off)];

impl SourceKind {
    /// Its word.
    pub fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("restic", |(word, _)| word)
    }

    /// The key that says where such a source is, besides `url`, when that has a name of its own.
    pub fn place_key(self) -> Option<&'static str> {
        match self {
            SourceKind::Restic | SourceKind::Objects => None,
            SourceKind::Directory => Some("path"),
            SourceKind::Zfs => Some("dataset"),
        }
    }

    /// Keys that mean nothing for it.
    fn foreign(self) -> &'static [&'static [&'static str]] {
        match self {
            SourceKind::Restic => &[OF_NAMES, OF_BUCKETS, OF_ZFS],
            SourceKind::Directory => &[OF_REPOSITORIES, OF_NETWORKS, OF_BUCKETS, OF_ZFS],
            SourceKind::Objects => &[OF_REPOSITORIES, OF_NAMES, OF_SERVERS, OF_ZFS],
            SourceKind::Zfs => &[OF_REPOSITORIES, OF_NETWORKS, OF_BUCKETS],
        }
    }

    /// Whether it is locked by a password of its own.
    pub fn has_password(self) -> bool {
        matches!(self, SourceKind::Restic)
    }

    /// Whether many of it may be one group.
    pub fn may_be_grouped(self) -> bool {
        matches!(self, SourceKind::Restic)
    }

    /// Whether what a snapshot of it holds can never change, whoever writes to its place.
    pub fn is_immutable(self) -> bool {
        matches!(self, SourceKind::Restic)
    }

    /// Whether what it reads may have recorded ACLs.
    pub fn may_have_acls(self) -> bool {
        !matches!(self, SourceKind::Objects)
    }

    /// Refuses what a source says that means nothing for its kind. What is said of all sources may. Errors: `Usage`.
    pub fn check(self, own: &[Entry]) -> Result<()> {
        let is_foreign = |key: &str| {
            let mut words = self.foreign().iter().flat_map(|words| words.iter());
            words.any(|word| key == *word || (word.ends_with('-') && key.starts_with(word)))
        };
        match own.iter().find(|entry| is_foreign(&entry.name())) {
            Some(entry) => Err(entry.wrong(format_args!("means nothing for kind = \"{}\"", self.word()))),
            None => Ok(()),
        }
    }

    /// Refuses a location at which there can be none of it. Errors: `Usage`.
    pub fn check_location(self, location: &Location) -> Result<()> {
        match self {
            SourceKind::Directory if location.as_path().is_none() => {
                let says = format!("{location}: a directory of snapshots is a path of this machine");
                Err(Error::new(Kind::Usage, says))
            }
            SourceKind::Zfs if !matches!(location, Location::Zfs(_)) => {
                Err(Error::new(Kind::Usage, format!("{location}: is no dataset (zfs:POOL/DATASET)")))
            }
            SourceKind::Objects if !matches!(location, Location::S3(place) if !place.bucket.is_empty()) => {
                let says = format!("{location}: objects lie in a bucket: write s3:URL/BUCKET/PREFIX");
                Err(Error::new(Kind::Usage, says))
            }
            _ => Ok(()),
        }
    }
}

/// What of a pattern lies above its first named part: a directory of this machine.
pub fn fixed(pattern: &Path) -> PathBuf {
    let named = |part: &Component<'_>| part.as_os_str().as_encoded_bytes().contains(&b'{');
    pattern.components().take_while(|part| !named(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::given::Given;
    use super::*;

    fn entry(key: &str) -> Entry {
        Entry { key: key.into(), place: "c.toml:3".into(), value: Given::Text("x".into()) }
    }

    #[test]
    fn what_means_nothing_for_a_kind_is_an_error_that_says_so() {
        let says =
            |kind: SourceKind, key: &str| kind.check(&[entry("name"), entry(key)]).map_err(|e| e.to_string());
        for key in ["password-file", "password_command", "repo-hot", "s3-region", "ssh-key", "members-file"] {
            let error = says(SourceKind::Directory, key).unwrap_err();
            assert_eq!(error, format!("c.toml:3: {key}: means nothing for kind = \"directory\""));
            assert_eq!(says(SourceKind::Restic, key), Ok(()));
        }
        for key in ["set", "zone", "access", "refresh", "host", "time-format"] {
            assert_eq!(says(SourceKind::Directory, key), Ok(()));
        }
        for key in ["dataset", "clone-idle", "clone_parent", "max-clones", "zfs-program"] {
            assert!(
                says(SourceKind::Directory, key).is_err() && says(SourceKind::Restic, key).is_err(),
                "{key}"
            );
            assert_eq!(says(SourceKind::Zfs, key), Ok(()));
        }
        assert!(says(SourceKind::Zfs, "s3-region").unwrap_err().contains("kind = \"zfs\""));
        assert!(says(SourceKind::Restic, "time_format").unwrap_err().contains("kind = \"restic\""));
    }

    #[test]
    fn every_kind_has_a_word() {
        for (word, kind) in KINDS {
            assert_eq!(kind.word(), *word);
        }
        assert_eq!(SourceKind::default().word(), "restic");
    }

    #[test]
    fn a_pattern_begins_with_what_is_fixed() {
        for (pattern, above) in [
            ("/srv/rsync/{host}/{time}", "/srv/rsync"),
            ("/srv/x-{host}", "/srv"),
            ("/{host}/fixed/{time}", "/"),
            ("/srv/plain", "/srv/plain"),
        ] {
            assert_eq!(fixed(Path::new(pattern)), Path::new(above), "{pattern}");
        }
    }
}
