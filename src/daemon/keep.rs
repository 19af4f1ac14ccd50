//! What all sources of a process share: memory and processors, and the disk cache of what distant stores deliver.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::broker::{Broker, Wardens};
use super::ends::Ends;
use super::programs;
use crate::cache::{Budget, Cached, Disk, Drawer, Folder, Share};
use crate::config::location::S3;
use crate::config::{CacheShare, Config, Credentials, Location};
use crate::source::chunked::Shared;
use crate::store::ObjectStore;

/// A process that has nothing else to do any more waits no longer for what is still to be written to the cache. After a
/// signal it is given less, by what ends it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shared by all sources. Cheap to clone.
#[derive(Clone)]
pub struct Common {
    /// Memory and processors.
    pub shared: Arc<Shared>,
    /// Others than whoever mounts are let in.
    pub lets_others_in: bool,
    /// What is to be done before the process ends.
    pub(super) ends: Arc<Ends>,
    /// Who does what takes rights, where this process has none.
    pub(super) broker: Option<Arc<Broker>>,
    /// Who keeps ZFS then.
    pub(super) wardens: Option<Arc<Wardens>>,
    /// How often sources are listed of which nothing else is said.
    pub refresh: Duration,
    disk: Arc<Lazy>,
}

/// The disk cache, opened for the first distant store.
struct Lazy {
    dir: Option<PathBuf>,
    size: u64,
    offline_max: Option<Duration>,
    opened: OnceLock<Option<Arc<Disk>>>,
}

impl Common {
    /// What `config` allows, and why there is no cache directory although there should be one.
    pub fn new(config: &Config) -> (Self, Option<String>) {
        let (cache, failure) = match config.cache_dir.as_deref().map(Folder::open).transpose() {
            Ok(cache) => (cache, None),
            Err(error) => {
                let told =
                    format!("indexes are kept in memory, because there is no cache directory: {error}");
                tracing::warn!("{told}");
                (None, Some(told))
            }
        };
        let lazy = Lazy {
            dir: config.cache_dir.clone().filter(|_| failure.is_none()),
            size: config.cache_size,
            offline_max: config.offline_max,
            opened: OnceLock::new(),
        };
        let shared = Shared::with_cache(Budget::of(config.memory), cache);
        let (lets_others_in, refresh) = (config.mount.allow_other, config.refresh);
        let (ends, disk) = (Arc::default(), Arc::new(lazy));
        (Common { shared, lets_others_in, refresh, ends, disk, broker: None, wardens: None }, failure)
    }

    /// The same, with the `broker` of a mount of `config` for what takes rights.
    pub(super) fn brokered(self, broker: Option<Arc<Broker>>, config: &Config) -> Self {
        let wardens = broker.clone().map(|broker| Wardens::of(broker, config));
        Common { broker, wardens, ..self }
    }

    /// The store of `location`, which people call `title`, behind the cache, and where its blobs are kept. As it was where
    /// it is as near as the cache.
    pub fn kept(
        &self,
        location: &Location,
        credentials: &Credentials,
        store: Arc<dyn ObjectStore>,
        title: &str,
        share: Option<&CacheShare>,
    ) -> (Arc<dyn ObjectStore>, Option<Drawer>) {
        let (drawer, _) = self.drawer(location, credentials, title);
        let Some(drawer) = drawer else { return (store, None) };
        let share = share.map(|share| Share::new(&share.of, share.part.of(self.disk.size)));
        let drawer = drawer.within(share);
        (Arc::new(Cached::new(store, drawer.clone(), self.disk.offline_max)), Some(drawer))
    }

    /// Where what comes from `location`, which people call `title`, is kept, unless it is as near as the cache; and what
    /// tells the place apart from every other.
    pub fn drawer(
        &self,
        location: &Location,
        credentials: &Credentials,
        title: &str,
    ) -> (Option<Drawer>, String) {
        let identity = identity(location, credentials);
        let disk = location.server().and_then(|_| self.disk.get());
        (disk.map(|disk| Drawer::new(disk, &location.to_string(), title).of(&identity)), identity)
    }

    /// Where the members that `command` names are kept.
    pub fn of_command(&self, command: &str, title: &str) -> Option<Drawer> {
        let name = format!("members-command of {title}");
        self.disk
            .get()
            .map(|disk| Drawer::new(disk, &name, title).of(&format!("members\0{title}\0{command}")))
    }

    /// Waits for what is still to be written to the cache, but not for long.
    pub fn flush(&self) {
        if let Some(Some(disk)) = self.disk.opened.get() {
            disk.flush(PATIENCE);
        }
    }
}

impl Lazy {
    fn get(&self) -> Option<Arc<Disk>> {
        let open = || {
            let dir = self.dir.as_deref().filter(|_| self.size > 0)?;
            let opened = Folder::open(dir).and_then(|folder| Disk::open(&folder, self.size));
            opened.map_err(|error| tracing::warn!("nothing is kept of distant repositories: {error}")).ok()
        };
        self.opened.get_or_init(open).clone()
    }
}

/// What tells a place apart from every other: its whole location, which is more than is shown of it, and what else decides
/// where that leads. Keys and passwords do not: they are changed now and then, and the place stays.
fn identity(location: &Location, credentials: &Credentials) -> String {
    let Credentials { s3, rest, tls, ssh, rclone } = credentials;
    let more: Vec<Option<OsString>> = match location {
        Location::Local(_) | Location::Zfs(_) => Vec::new(),
        Location::S3(S3 { endpoint: Some(_), .. }) => Vec::new(),
        // A profile may name another service than Amazon's.
        Location::S3(_) => vec![s3.profile.as_ref().map(OsString::from)],
        // A server may show each user something else.
        Location::Rest(_) => vec![rest.user.as_ref().map(OsString::from), path(&tls.client_cert)],
        // So may the other side's account, by the key; and what a host is called is a matter of ssh's configuration.
        Location::Sftp(_) => vec![path(&ssh.config), path(&ssh.key), variable("HOME")],
        Location::Rclone(_) => vec![
            path(&rclone.config).or_else(|| variable("RCLONE_CONFIG")),
            path(&rclone.program),
            variable("XDG_CONFIG_HOME"),
            variable("HOME"),
        ],
    };
    // Neither of the two holds anything that could not be written.
    serde_json::to_string(&(location, more)).unwrap_or_else(|_| format!("{location:?}"))
}

fn path(path: &Option<PathBuf>) -> Option<OsString> {
    path.as_ref().map(|path| path.as_os_str().to_owned())
}

/// A variable of whoever mounts, as programs get it.
fn variable(name: &str) -> Option<OsString> {
    programs::rclone().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::{Login, RcloneSettings, S3Access, Ssh, Tls, location};

    fn at(spelled: &str, credentials: Credentials) -> (String, String) {
        let location = location::parse(spelled.as_ref(), "/".as_ref()).unwrap().location;
        (location.to_string(), identity(&location, &credentials))
    }

    fn rclone(config: Option<&str>, program: Option<&str>) -> Credentials {
        let (config, program) = (config.map(Into::into), program.map(Into::into));
        Credentials { rclone: RcloneSettings { config, program }, ..Credentials::default() }
    }

    #[test]
    fn places_that_are_shown_alike_are_told_apart() {
        let none = Credentials::default;
        let ssh = |ssh: Ssh| Credentials { ssh, ..none() };
        let (config, key) = (Some("/etc/other".into()), Some("/etc/key".into()));
        let user = |name: &str| Login { user: Some(name.into()), ..Login::default() };
        let cert = Tls { client_cert: Some("/cert".into()), ..Tls::default() };
        let profile = S3Access { profile: Some("elsewhere".into()), ..S3Access::default() };
        for alike in [
            vec![
                at("rclone:r:a", none()),
                at("rclone:r:a", rclone(Some("/c"), None)),
                at("rclone:r:a", rclone(None, Some("/p"))),
            ],
            vec![at("rclone::s3,endpoint=a:b", none()), at("rclone::s3,endpoint=c:b", none())],
            vec![
                at("sftp:h:a", none()),
                at("sftp:h:a", ssh(Ssh { config, ..Ssh::default() })),
                at("sftp:h:a", ssh(Ssh { key, ..Ssh::default() })),
            ],
            vec![
                at("rest:https://h.x/", none()),
                at("rest:https://h.x/", Credentials { rest: user("a"), ..none() }),
                at("rest:https://h.x/", Credentials { rest: user("b"), ..none() }),
                at("rest:https://h.x/", Credentials { tls: cert, ..none() }),
            ],
            vec![at("s3:bucket/a", none()), at("s3:bucket/a", Credentials { s3: profile, ..none() })],
        ] {
            let shown: HashSet<_> = alike.iter().map(|(shown, _)| shown).collect();
            let told: HashSet<_> = alike.iter().map(|(_, identity)| identity).collect();
            assert_eq!((shown.len(), told.len()), (1, alike.len()), "{alike:?}");
        }
    }

    #[test]
    fn who_gets_another_key_finds_what_was_kept() {
        let s3 = S3Access { key_id: Some("new".into()), region: Some("r".into()), ..S3Access::default() };
        let changed = Credentials { s3, ..Credentials::default() };
        for spelled in ["s3:bucket/a", "s3:https://h.x/bucket/a"] {
            assert_eq!(at(spelled, Credentials::default()), at(spelled, changed.clone()), "{spelled}");
        }
    }
}
