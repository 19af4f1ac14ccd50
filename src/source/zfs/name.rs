//! Names of datasets and snapshots, checked at the border: what is one never becomes an option or a path of its own.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};

/// The longest name, with the snapshot's part, that OpenZFS makes.
const LONGEST: usize = 255;

/// The name of a file system: components joined by `/`, the first of which is the pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dataset(Arc<str>);

impl Dataset {
    /// The dataset called `name`. Errors: `Usage` when nothing can be called so.
    pub fn new(name: &str) -> Result<Self> {
        if name.len() <= LONGEST && name.split('/').all(is_component) {
            return Ok(Dataset(name.into()));
        }
        let says = format!("\"{}\" is no name of a ZFS dataset", name.escape_debug());
        Err(Error::new(Kind::Usage, says))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The dataset `name` in it.
    pub(super) fn child(&self, name: &str) -> Result<Self> {
        Dataset::new(&format!("{self}/{name}"))
    }

    /// The last component of its name.
    pub(super) fn last(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The components below `above`; `None` when it does not lie below, or is the same.
    pub(super) fn below(&self, above: &Dataset) -> Option<&str> {
        self.0.strip_prefix(&*above.0)?.strip_prefix('/')
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A snapshot: `dataset@name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SnapshotName {
    /// What it is of.
    pub dataset: Dataset,
    /// What follows the `@`.
    pub label: Arc<str>,
}

impl SnapshotName {
    /// What is called `name`; `None` when that is no name of a snapshot.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (dataset, label) = name.split_once('@')?;
        let fits = name.len() <= LONGEST && is_component(label);
        fits.then(|| Dataset::new(dataset).ok())
            .flatten()
            .map(|dataset| SnapshotName { dataset, label: label.into() })
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.dataset, self.label)
    }
}

/// Whether ZFS lets a component be called so. `.` and `..` pass its alphabet on old versions, and are refused here
/// because the name of a snapshot is also that of a directory.
fn is_component(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.: %".contains(&b);
    !name.is_empty() && name.bytes().all(known) && !name.starts_with('-') && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_zfs_could_not_have_made_is_no_name() {
        for good in ["tank", "pool/backup/current", "a/b c/d:e_f.g-h", "p/%recv"] {
            assert_eq!(Dataset::new(good).unwrap().as_str(), good);
        }
        let long = "a".repeat(LONGEST + 1);
        for bad in [
            "", "/", "a/", "/a", "a//b", "-rf", "a/-x", "a@b", "a#b", "a/..", "a\tb", "a\n", "a/\u{e4}",
            &long,
        ] {
            assert_eq!(Dataset::new(bad).unwrap_err().kind(), Kind::Usage, "{bad}");
        }
    }

    #[test]
    fn a_dataset_knows_what_lies_below_it() {
        let dataset = |name| Dataset::new(name).unwrap();
        let above = dataset("pool/backup");
        assert_eq!(dataset("pool/backup/lab/home").below(&above), Some("lab/home"));
        for other in ["pool/backup", "pool/backup2/x", "pool", "other/backup/x"] {
            assert_eq!(dataset(other).below(&above), None, "{other}");
        }
        assert_eq!(above.child("x").unwrap(), dataset("pool/backup/x"));
        assert!(above.child("../x").is_err());
        assert_eq!((above.last(), dataset("tank").last()), ("backup", "tank"));
    }

    #[test]
    fn a_snapshot_has_a_dataset_and_a_label() {
        let name = SnapshotName::parse("pool/a@snap_20220906_082043").unwrap();
        assert_eq!((name.dataset.as_str(), &*name.label), ("pool/a", "snap_20220906_082043"));
        assert_eq!(name.to_string(), "pool/a@snap_20220906_082043");
        for bad in
            ["pool/a", "pool/a@", "pool/a@b/c", "pool/a@..", "@x", "pool/a@-r", "pool@a@b", "pool#mark"]
        {
            assert_eq!(SnapshotName::parse(bad), None, "{bad}");
        }
    }
}
