//! The programs that change ZFS: `zfs`, `mount` and `umount`, each called with arguments, never through a shell.
//!
//! What they refuse is told by what they say, in the wording of zfs-fuse 0.7.0 and of current OpenZFS.

use std::ffi::OsStr;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::store::program::Program;

/// A pool that does not answer for so long is held to hang; a little less than whoever looks at a directory waits.
const PATIENCE: Duration = Duration::from_secs(25);

/// A listing of a hundred thousand snapshots with six properties is 50 MB.
const LONGEST: u64 = 256 << 20;

/// How the programs are called.
#[derive(Clone, Debug)]
pub struct Tool {
    /// `zfs`, with what stands before it.
    pub zfs: Program,
    /// `mount`.
    pub mount: Program,
    /// `umount`.
    pub umount: Program,
}

/// Why a program refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There is no such dataset or snapshot.
    Missing,
    /// It has that name already.
    Exists,
    /// Somebody uses it.
    Busy,
    /// It has snapshots or children.
    Children,
    /// Nothing is mounted there.
    NotMounted,
    /// Whoever calls may not.
    Denied,
    /// Its key is not loaded.
    Key,
    /// An old program, which does not know a property.
    Old,
    /// Something else.
    Other,
}

/// A refusal in the program's words.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What kind it is.
    pub why: Why,
    /// The error that it is to whoever asked.
    pub error: Error,
}

/// What a program answers: nobody else knows what to do about a refusal.
pub(super) type Said<T> = std::result::Result<T, Refusal>;

/// What tells each reason, in lower case; the first that is found counts.
const WORDS: &[(Why, &[&str])] = &[
    (
        Why::Denied,
        &[
            "permission denied",
            "must be superuser",
            "must be root",
            "a password is required",
            "operation not permitted",
            "not allowed",
            "insufficient privileges",
        ],
    ),
    (Why::Key, &["key not loaded", "key must be loaded", "encryption key", "required key not available"]),
    (
        Why::Missing,
        &[
            "does not exist",
            "no such dataset",
            "could not find any snapshots",
            "no such pool",
            "dataset not found",
            "no such tag",
        ],
    ),
    (Why::Exists, &["already exists"]),
    (Why::Children, &["has children", "has dependent clones"]),
    (Why::NotMounted, &["not mounted", "not currently mounted", "no mount point specified"]),
    (Why::Busy, &["busy"]),
    (Why::Old, &["bad property list", "invalid property"]),
];

impl Tool {
    /// What `zfs` prints.
    pub(super) async fn zfs(&self, arguments: &[&str]) -> Said<String> {
        let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
        let printed = ask(&self.zfs, &arguments).await?;
        String::from_utf8(printed).map_err(|e| Refusal {
            why: Why::Other,
            error: Error::caused_by(Kind::Corrupt, "zfs: its answer is not text", e),
        })
    }

    /// Mounts a clone at `dir`, read-only.
    pub(super) async fn mount(&self, clone: &str, dir: &OsStr) -> Said<()> {
        let options = ["-t", "zfs", "-o", "ro,nosuid,nodev,noexec", "--", clone].map(OsStr::new);
        ask(&self.mount, &[options.as_slice(), &[dir]].concat()).await.map(drop)
    }

    /// Unmounts `dir`; `Busy` while anybody has something open there.
    pub(super) async fn unmount(&self, dir: &OsStr) -> Said<()> {
        ask(&self.umount, &["--".as_ref(), dir]).await.map(drop)
    }
}

async fn ask(program: &Program, arguments: &[&OsStr]) -> Said<Vec<u8>> {
    let answer = program.ask(arguments, LONGEST, PATIENCE).await;
    let answer = answer.map_err(|error| Refusal { why: Why::Other, error })?;
    if answer.success {
        return Ok(answer.stdout);
    }
    Err(refusal(&answer.stderr))
}

/// What a program means by saying `stderr`.
fn refusal(stderr: &str) -> Refusal {
    let lower = stderr.to_ascii_lowercase();
    let why = WORDS.iter().find(|(_, words)| words.iter().any(|word| lower.contains(word)));
    let why = why.map_or(Why::Other, |(why, _)| *why);
    let kind = match why {
        Why::Missing => Kind::NotFound,
        Why::Denied | Why::Key => Kind::Denied,
        _ => Kind::Unavailable,
    };
    // A usage follows, of a hundred lines.
    let first =
        stderr.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("failed without a word");
    let first = match first {
        // zfs-fuse says first that it could not connect, and to whom in the next line.
        "connect: No such file or directory" | "connect: Connection refused" => "zfs-fuse is not running",
        first => first,
    };
    Refusal { why, error: Error::new(kind, first.to_owned()) }
}

/// Who may do what is missing, told with a refusal.
pub(super) fn remedy(error: Error, needs: &str) -> Error {
    match error.kind() {
        Kind::Denied => error.context(format!("{needs} (docs/zfs.md tells which rights are needed)")),
        _ => error,
    }
}

/// What a program must be able to say for a test.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_by_what_is_said() {
        for (said, why, kind) in [
            // zfs-fuse 0.7.0
            ("cannot open 'nope/x': dataset does not exist", Why::Missing, Kind::NotFound),
            ("cannot destroy 'pool/c1': dataset is busy", Why::Busy, Kind::Unavailable),
            ("cannot create 'pool/c1': dataset already exists", Why::Exists, Kind::Unavailable),
            (
                "umount: /m/c1: target is busy.\ncannot unmount '/m/c1': umount failed",
                Why::Busy,
                Kind::Unavailable,
            ),
            ("bad property list: invalid property 'keystatus'\nusage:\n\tget", Why::Old, Kind::Unavailable),
            // OpenZFS 2.2
            ("cannot open 'tank/x@y': snapshot does not exist", Why::Missing, Kind::NotFound),
            ("cannot create 'tank/x/backupfs-1': permission denied", Why::Denied, Kind::Denied),
            ("cannot destroy 'tank/c': filesystem has children\nuse '-r'", Why::Children, Kind::Unavailable),
            ("cannot destroy 'tank/c@s': snapshot has dependent clones", Why::Children, Kind::Unavailable),
            ("cannot mount 'tank/c': encryption key not loaded", Why::Key, Kind::Denied),
            ("umount: /run/x: not mounted.", Why::NotMounted, Kind::Unavailable),
            ("umount: /run/x: umount failed: Operation not permitted.", Why::Denied, Kind::Denied),
            ("mount: /run/x: must be superuser to use mount.", Why::Denied, Kind::Denied),
            ("sudo: a password is required", Why::Denied, Kind::Denied),
            ("", Why::Other, Kind::Unavailable),
        ] {
            let refusal = refusal(said);
            assert_eq!((refusal.why, refusal.error.kind()), (why, kind), "{said}");
        }
    }

    #[test]
    fn only_the_first_line_is_told() {
        assert_eq!(refusal("\nbad property list\nusage:\n get").error.to_string(), "bad property list");
        assert_eq!(refusal("").error.to_string(), "failed without a word");
        let gone = refusal(
            "connect: No such file or directory\nPlease make sure that the zfs-fuse daemon is running.",
        );
        assert_eq!(gone.error.to_string(), "zfs-fuse is not running");
        assert_eq!(gone.error.kind(), Kind::Unavailable);
    }

    #[test]
    fn who_may_not_is_told_what_is_needed() {
        let told = |stderr| remedy(refusal(stderr).error, "a clone is needed").to_string();
        assert!(told("permission denied").starts_with("a clone is needed (docs/zfs.md"));
        assert_eq!(told("dataset is busy"), "dataset is busy");
    }
}
