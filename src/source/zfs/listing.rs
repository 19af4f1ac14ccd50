//! What there is, as `zfs get -H -p` tells it: a line for each property, separated by tabs.
//!
//! `get` rather than `list`, because only it prints exact numbers in zfs-fuse, and both know it. Properties that one of
//! them does not know are asked for once more without.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::name::{Dataset, SnapshotName};
use super::tool::{Refusal, Said, Tool, Why};
use crate::error::{Error, Kind, Result};

/// Whose a clone is: set on each that is made here.
pub(super) const OWNER: &str = "backupfs:owner";

/// What is asked of every dataset and snapshot, and of encryption, which zfs-fuse does not know.
const PROPERTIES: &str = "type,creation,guid,mounted,mountpoint,used,userrefs";
const WITH_KEYS: &str = "type,creation,guid,mounted,mountpoint,used,userrefs,keystatus";
const OF_CLONES: &str = "type,origin,mountpoint,backupfs:owner";

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// Its name.
    pub name: Dataset,
    /// Where it is mounted, when its own property says so.
    pub mountpoint: Option<PathBuf>,
    /// It is mounted somewhere.
    pub is_mounted: bool,
    /// It is encrypted, and its key is not loaded.
    pub is_locked: bool,
    /// Bytes that it takes with its snapshots and all that is below.
    pub used: u64,
}

/// A snapshot of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// What it is called.
    pub name: SnapshotName,
    /// The same wherever it was sent to.
    pub guid: u64,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Somebody holds it.
    pub is_held: bool,
}

/// File systems and their snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// By name.
    pub systems: BTreeMap<Dataset, FileSystem>,
    /// In the order of the listing.
    pub snapshots: Vec<Taken>,
}

/// A clone that was made here, or by another process like this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Its name.
    pub name: Dataset,
    /// What it was made of.
    pub origin: SnapshotName,
    /// Where it is to be mounted, unless that is left to mount(8).
    pub mountpoint: Option<PathBuf>,
    /// Who made it.
    pub owner: String,
}

/// What is printed of `dataset` and its snapshots; `deep`: and of everything below. Errors: `NotFound` when there is no
/// such dataset.
pub(super) async fn print(tool: &Tool, dataset: &Dataset, deep: bool) -> Result<String> {
    let printed = match get(tool, WITH_KEYS, dataset, deep).await {
        Err(Refusal { why: Why::Old, .. }) => get(tool, PROPERTIES, dataset, deep).await,
        printed => printed,
    };
    printed.map_err(|refusal| refusal.error)
}

/// The same, read.
pub(super) async fn list(tool: &Tool, dataset: &Dataset, deep: bool) -> Result<Listed> {
    Listed::read(&print(tool, dataset, deep).await?, dataset)
}

/// The clones directly in `parent` that processes like this made.
pub(super) async fn clones(tool: &Tool, parent: &Dataset) -> Result<Vec<Left>> {
    let text = get(tool, OF_CLONES, parent, false).await.map_err(|refusal| refusal.error)?;
    Ok(records(&text).into_iter().filter_map(|(name, record)| Left::of(name, &record)).collect())
}

async fn get(tool: &Tool, properties: &str, dataset: &Dataset, deep: bool) -> Said<String> {
    let reach: &[&str] = if deep { &["-r"] } else { &["-d", "1"] };
    let fields = ["-o", "name,property,value", properties, dataset.as_str()];
    tool.zfs(&[&["get", "-H", "-p"], reach, &fields].concat()).await
}

/// The properties of one name. `-` stands for what it does not have.
type Record<'a> = BTreeMap<&'a str, &'a str>;

/// What the lines say, by name in the order of their first lines. A line of another shape says nothing.
fn records(text: &str) -> Vec<(&str, Record<'_>)> {
    let mut records: Vec<(&str, Record<'_>)> = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, '\t');
        let (Some(name), Some(property), Some(value)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let value = Some(value).filter(|value| *value != "-");
        match records.last_mut() {
            Some((last, record)) if *last == name => record.extend(value.map(|value| (property, value))),
            _ => records.push((name, value.map(|value| (property, value)).into_iter().collect())),
        }
    }
    records
}

/// A path, unless the property says `none` or `legacy`.
fn path(value: Option<&&str>) -> Option<PathBuf> {
    value.filter(|value| value.starts_with('/')).map(PathBuf::from)
}

impl Listed {
    /// What `printed` tells of `dataset` and what was printed with it. Errors: `Unsupported` when that is a volume.
    pub(super) fn read(printed: &str, dataset: &Dataset) -> Result<Self> {
        let listed = Listed::parse(printed);
        match listed.systems.contains_key(dataset) {
            true => Ok(listed),
            false => Err(Error::new(Kind::Unsupported, format!("{dataset} is no file system"))),
        }
    }

    fn parse(text: &str) -> Self {
        let mut listed = Listed::default();
        for (name, record) in records(text) {
            match record.get("type") {
                Some(&"filesystem") => {
                    listed.systems.extend(FileSystem::of(name, &record).map(|fs| (fs.name.clone(), fs)));
                }
                Some(&"snapshot") => listed.snapshots.extend(Taken::of(name, &record)),
                // Volumes hold no files, bookmarks no data.
                _ => {}
            }
        }
        // Those of volumes.
        listed.snapshots.retain(|taken| listed.systems.contains_key(&taken.name.dataset));
        listed
    }
}

impl FileSystem {
    fn of(name: &str, record: &Record<'_>) -> Option<Self> {
        Some(FileSystem {
            name: Dataset::new(name).ok()?,
            mountpoint: path(record.get("mountpoint")),
            is_mounted: record.get("mounted") == Some(&"yes"),
            is_locked: record.get("keystatus") == Some(&"unavailable"),
            used: record.get("used").and_then(|used| used.parse().ok()).unwrap_or(0),
        })
    }
}

impl Taken {
    fn of(name: &str, record: &Record<'_>) -> Option<Self> {
        let number = |property| record.get(property);
        Some(Taken {
            name: SnapshotName::parse(name)?,
            guid: number("guid")?.parse().ok()?,
            created: number("creation")?.parse().ok()?,
            is_held: number("userrefs").is_some_and(|count| *count != "0"),
        })
    }
}

impl Left {
    fn of(name: &str, record: &Record<'_>) -> Option<Self> {
        Some(Left {
            name: Dataset::new(name).ok().filter(|_| record.get("type") == Some(&"filesystem"))?,
            origin: SnapshotName::parse(record.get("origin")?)?,
            mountpoint: path(record.get("mountpoint")),
            owner: (*record.get(OWNER)?).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn dataset(name: &str) -> Dataset {
        Dataset::new(name).unwrap()
    }

    fn lines(name: &str, properties: &[(&str, &str)]) -> String {
        properties.iter().map(|(property, value)| format!("{name}\t{property}\t{value}\n")).collect()
    }

    const OLD: &str = "bad property list: invalid property 'keystatus'\nusage:\n\tget [-rHp]";

    /// As zfs-fuse 0.7.0 prints it.
    fn fuse() -> String {
        let fs = |name, at, mounted| {
            let own =
                [("type", "filesystem"), ("creation", "1795297636"), ("guid", "157"), ("mounted", mounted)];
            lines(name, &own) + &lines(name, &[("mountpoint", at), ("used", "135168")])
        };
        let snapshot =
            |name, guid| lines(name, &[("type", "snapshot"), ("creation", "1795297636"), ("guid", guid)]);
        fs("pool/current", "/srv/a b", "yes")
            + &snapshot("pool/current@snap_1", "18275965034127557999")
            + &snapshot("pool/current@odd name", "2")
            + &fs("pool/current/backupfs-1", "legacy", "no")
    }

    #[tokio::test]
    async fn zfs_fuse_is_asked_again_without_what_it_does_not_know() {
        let fake = Fake::new();
        let asked = |properties| format!("get -H -p -d 1 -o name,property,value {properties} pool/current");
        fake.refuses(&asked(WITH_KEYS), OLD);
        fake.answers(&asked(PROPERTIES), &fuse());
        let listed = list(&fake.tool(), &dataset("pool/current"), false).await.unwrap();
        let taken: Vec<_> =
            listed.snapshots.iter().map(|s| (s.name.to_string(), s.guid, s.created)).collect();
        let odd = ("pool/current@odd name".to_owned(), 2, 1_795_297_636);
        assert_eq!(
            taken,
            [("pool/current@snap_1".to_owned(), 18_275_965_034_127_557_999, 1_795_297_636), odd]
        );
        let system = &listed.systems[&dataset("pool/current")];
        assert_eq!(system.mountpoint.as_deref(), Some("/srv/a b".as_ref()));
        assert!(system.is_mounted && !system.is_locked);
        assert_eq!(system.used, 135_168);
        let clone = &listed.systems[&dataset("pool/current/backupfs-1")];
        assert_eq!((clone.mountpoint.as_ref(), clone.is_mounted), (None, false));
    }

    #[tokio::test]
    async fn openzfs_tells_of_keys_volumes_and_bookmarks() {
        let fake = Fake::new();
        let fs = |name, key| {
            let all = [
                ("type", "filesystem"),
                ("creation", "5"),
                ("guid", "7"),
                ("mounted", "no"),
                ("mountpoint", "none"),
            ];
            lines(name, &all) + &lines(name, &[("keystatus", key)])
        };
        let taken = |name, creation| {
            lines(
                name,
                &[
                    ("type", "snapshot"),
                    ("creation", creation),
                    ("guid", "7"),
                    ("userrefs", "2"),
                    ("keystatus", "-"),
                ],
            )
        };
        let printed = fs("tank", "-")
            + &fs("tank/locked", "unavailable")
            + &fs("tank/open", "available")
            + &lines("tank/vol", &[("type", "volume"), ("creation", "5"), ("guid", "7")])
            + &taken("tank/vol@s", "5")
            + &lines("tank/open#mark", &[("type", "bookmark"), ("creation", "5"), ("guid", "7")])
            + &taken("tank/locked@s", "-5")
            + &taken("tank/open@bad", "soon")
            + "a line of another shape\n\n";
        fake.answers(&format!("get -H -p -r -o name,property,value {WITH_KEYS} tank"), &printed);
        let listed = list(&fake.tool(), &dataset("tank"), true).await.unwrap();
        let locked: Vec<_> = listed.systems.values().map(|fs| (fs.name.as_str(), fs.is_locked)).collect();
        assert_eq!(locked, [("tank", false), ("tank/locked", true), ("tank/open", false)]);
        let taken: Vec<_> =
            listed.snapshots.iter().map(|s| (s.name.to_string(), s.created, s.is_held)).collect();
        assert_eq!(taken, [("tank/locked@s".to_owned(), -5, true)]);
    }

    #[tokio::test]
    async fn what_is_not_there_and_what_is_no_file_system_is_said() {
        let fake = Fake::new();
        let asked = |name| format!("get -H -p -d 1 -o name,property,value {WITH_KEYS} {name}");
        fake.refuses(&asked("pool/x"), "cannot open 'pool/x': dataset does not exist");
        fake.answers(&asked("pool/vol"), &lines("pool/vol", &[("type", "volume")]));
        let error = list(&fake.tool(), &dataset("pool/x"), false).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(error.to_string(), "cannot open 'pool/x': dataset does not exist");
        let error = list(&fake.tool(), &dataset("pool/vol"), false).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::Unsupported, "pool/vol is no file system".to_owned())
        );
    }

    #[tokio::test]
    async fn only_clones_with_an_owner_are_ours() {
        let fake = Fake::new();
        let clone = |name, origin, owner| {
            lines(
                name,
                &[("type", "filesystem"), ("origin", origin), ("mountpoint", "legacy"), (OWNER, owner)],
            )
        };
        let printed = clone("p/c", "-", "-")
            + &clone("p/c/backupfs-1", "p/c@s", "me")
            + &clone("p/c/clone", "p/c@s", "-")
            + &clone("p/c/own", "-", "me")
            + &lines("p/c/backupfs-1@s", &[("type", "snapshot"), (OWNER, "me")]);
        fake.answers(&format!("get -H -p -d 1 -o name,property,value {OF_CLONES} p/c"), &printed);
        let found = clones(&fake.tool(), &dataset("p/c")).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), &*found[0].owner), ("p/c/backupfs-1", "me"));
        assert_eq!((found[0].origin.to_string(), &found[0].mountpoint), ("p/c@s".to_owned(), &None));
    }
}
