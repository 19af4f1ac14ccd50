//! What writers of objects leave in their metadata about the files that these were.
//!
//! | writer | labels |
//! |---|---|
//! | rclone | `mtime` (seconds with a fraction, or RFC 3339), `md5chksum` (base64), with `--metadata` `mode` (octal), `uid`, `gid`, `atime` |
//! | s3fs | `mode` (decimal, with the file's type), `uid`, `gid`, `mtime`, `atime`, `ctime`; a symlink's target is its content |
//! | s3cmd | `s3cmd-attrs`: `atime:…/ctime:…/gid:…/md5:…/mode:…/mtime:…/uid:…` |
//! | jets3t | `jets3t-original-file-date-iso8601`, `md5-hash` |
//! | AWS DataSync, Storage Gateway, `aws s3` scripts | `file-mtime`, `file-atime` (with a unit), `file-permissions` (octal), `file-owner`, `file-group` |

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::bucket::Labels;
use crate::tree::{FileType, Time};

/// What is known of a file beyond its listing; `None` where nobody said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    /// Type and permissions, as `st_mode` has them; only permissions where the type is 0.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    pub atime: Option<(i64, u32)>,
    pub ctime: Option<(i64, u32)>,
    /// In hexadecimal.
    pub md5: Option<String>,
    /// Of a symlink.
    pub target: Option<Vec<u8>>,
}

/// Type bits of a mode.
const TYPE: u32 = 0o170_000;

impl Attributes {
    /// What `labels` say.
    pub(super) fn of(labels: &Labels) -> Self {
        let mut found = Attributes::default();
        for (name, value) in labels {
            found.learn(name, value);
        }
        if let Some(packed) = labels.get("s3cmd-attrs") {
            for (name, value) in packed.split('/').filter_map(|pair| pair.split_once(':')) {
                found.learn(name, value);
            }
        }
        found
    }

    fn learn(&mut self, name: &str, value: &str) {
        fn put<T>(to: &mut Option<T>, value: Option<T>) {
            *to = value.or_else(|| to.take());
        }
        match name {
            "mode" | "file-permissions" => put(&mut self.mode, mode(value)),
            "uid" | "file-owner" => put(&mut self.uid, value.parse().ok()),
            "gid" | "file-group" => put(&mut self.gid, value.parse().ok()),
            "mtime" | "file-mtime" | "jets3t-original-file-date-iso8601" => put(&mut self.mtime, time(value)),
            "atime" | "file-atime" => put(&mut self.atime, time(value)),
            "ctime" | "file-ctime" => put(&mut self.ctime, time(value)),
            "md5" | "md5chksum" | "md5-hash" => put(&mut self.md5, md5(value)),
            _ => {}
        }
    }

    /// Whether anything is known.
    pub(super) fn is_empty(&self) -> bool {
        *self == Attributes::default()
    }

    /// The type of the file; nothing where nobody said, or where it is none that an object could be.
    pub(super) fn kind(&self) -> Option<FileType> {
        match self.mode? & TYPE {
            0o100_000 => Some(FileType::File),
            0o040_000 => Some(FileType::Dir),
            0o120_000 => Some(FileType::Symlink),
            0o010_000 => Some(FileType::Fifo),
            0o140_000 => Some(FileType::Socket),
            _ => None,
        }
    }
}

/// A time of the tree.
pub(super) fn shown((secs, nanos): (i64, u32)) -> Time {
    Time { secs, nanos }
}

/// A mode in decimal with its type, as s3fs and s3cmd write it, else in octal. Four digits are permissions in octal where
/// they can be: a pipe's mode in decimal looks the same, and is rarer than a set-uid bit.
fn mode(value: &str) -> Option<u32> {
    let is_typed = |mode: &u32| {
        let kinds = [0o010_000, 0o020_000, 0o040_000, 0o060_000, 0o100_000, 0o120_000, 0o140_000];
        *mode <= 0o177_777 && kinds.contains(&(mode & TYPE))
    };
    let decimal = || value.parse().ok().filter(is_typed);
    let octal = || u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777 || is_typed(mode));
    let is_short = value.len() <= 4 && u32::from_str_radix(value, 8).is_ok();
    if value.starts_with('0') || is_short { octal() } else { decimal().or_else(octal) }
}

/// Seconds with or without a fraction, a number with its unit, or RFC 3339.
fn time(value: &str) -> Option<(i64, u32)> {
    if let Some(nanos) = value.strip_suffix("ns") {
        return in_parts(nanos.parse().ok()?, 1_000_000_000);
    }
    if let Some(millis) = value.strip_suffix("ms") {
        return in_parts(millis.parse().ok()?, 1000);
    }
    let value = value.strip_suffix('s').unwrap_or(value);
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if let Ok(secs) = whole.parse::<i64>() {
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        let nanos = digits.parse::<u32>().ok()?;
        return match (whole.starts_with('-'), nanos) {
            (true, 1..) => Some((secs.checked_sub(1)?, 1_000_000_000 - nanos)),
            _ => Some((secs, nanos)),
        };
    }
    let at: Timestamp = value.parse().ok()?;
    in_parts(i64::try_from(at.as_nanosecond()).ok()?, 1_000_000_000)
}

/// `count` parts of a second, of which it has `whole`.
fn in_parts(count: i64, whole: i64) -> Option<(i64, u32)> {
    let nanos = count.rem_euclid(whole) * (1_000_000_000 / whole);
    Some((count.div_euclid(whole), u32::try_from(nanos).ok()?))
}

/// Hexadecimal digits, or base64.
fn md5(value: &str) -> Option<String> {
    if value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(value.to_ascii_lowercase());
    }
    let bytes = BASE64_STANDARD.decode(value).ok().filter(|bytes| bytes.len() == 16)?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> Attributes {
        Attributes::of(&labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn what_each_writer_leaves_is_understood() {
        let md5 = Some("d41d8cd98f00b204e9800998ecf8427e".to_owned());
        let rclone = of(&[("mtime", "1600000000.123456789"), ("md5chksum", "1B2M2Y8AsgTpgAmY7PhCfg==")]);
        assert_eq!((rclone.mtime, &rclone.md5), (Some((1_600_000_000, 123_456_789)), &md5));
        let metadata =
            of(&[("mtime", "2020-09-13T12:26:40.5Z"), ("mode", "100640"), ("uid", "5"), ("gid", "6")]);
        assert_eq!((metadata.mtime, metadata.mode), (Some((1_600_000_000, 500_000_000)), Some(0o100_640)));
        assert_eq!((metadata.uid, metadata.gid), (Some(5), Some(6)));
        let s3fs = of(&[("mode", "33188"), ("mtime", "1600000000"), ("uid", "0"), ("ctime", "1600000001.5")]);
        assert_eq!((s3fs.mode, s3fs.kind()), (Some(0o100_644), Some(FileType::File)));
        assert_eq!(s3fs.ctime, Some((1_600_000_001, 500_000_000)));
        let s3cmd = of(&[(
            "s3cmd-attrs",
            "atime:1600000002/gid:7/gname:g/md5:D41D8CD98F00B204E9800998ECF8427E/mode:33279/mtime:1600000000/uid:8/uname:u",
        )]);
        assert_eq!((s3cmd.mode, s3cmd.gid, s3cmd.uid), (Some(0o100_777), Some(7), Some(8)));
        assert_eq!((s3cmd.atime, &s3cmd.md5), (Some((1_600_000_002, 0)), &md5));
        let jets3t = of(&[
            ("jets3t-original-file-date-iso8601", "2020-09-13T12:26:40.000Z"),
            ("md5-hash", &md5.clone().unwrap()),
        ]);
        assert_eq!((jets3t.mtime, jets3t.md5), (Some((1_600_000_000, 0)), md5));
        let datasync =
            of(&[("file-mtime", "1600000000123ms"), ("file-permissions", "0644"), ("file-owner", "500")]);
        assert_eq!((datasync.mtime, datasync.mode), (Some((1_600_000_000, 123_000_000)), Some(0o644)));
        assert_eq!((datasync.kind(), datasync.uid), (None, Some(500)));
        assert_eq!(of(&[("file-mtime", "-1ns")]).mtime, Some((-1, 999_999_999)));
    }

    #[test]
    fn modes_are_read_in_the_base_they_were_written_in() {
        for (text, mode) in [
            ("41471", 0o120_777),
            ("120777", 0o120_777),
            ("16877", 0o040_755),
            ("040755", 0o040_755),
            ("100644", 0o100_644),
            ("644", 0o644),
            ("4755", 0o4755),
            ("33261", 0o100_755),
            ("33152", 0o100_600),
        ] {
            assert_eq!(super::mode(text), Some(mode), "{text}");
        }
        for wrong in ["", "x", "-1", "99", "4294967296", "777777"] {
            assert_eq!(super::mode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        for (name, value) in [
            ("mtime", "yesterday"),
            ("mtime", "1600000000.x"),
            ("mtime", ""),
            ("mtime", "99999999999999999999"),
            ("mtime", "9223372036854775807ns"),
            ("uid", "-1"),
            ("md5", "zz"),
            ("s3cmd-attrs", "///:::"),
            ("unknown", "1"),
        ] {
            let found = of(&[(name, value)]);
            assert!(
                found.is_empty() || found.mtime.is_some_and(|(secs, _)| secs == 9_223_372_036),
                "{name}: {value}: {found:?}"
            );
        }
        assert_eq!(of(&[("mtime", "-1.25")]).mtime, Some((-2, 750_000_000)));
    }
}
