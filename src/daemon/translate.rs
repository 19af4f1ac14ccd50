//! From the configuration's words to those of the rooms that it configures.

use std::sync::Arc;

use super::kind;
use crate::config::{self, Config};
use crate::fuse;
use crate::namespace::{self, Member};
use crate::observe::access::AccessLog;
use crate::tree::{Source, Usage};

/// A source that was opened, with what the configuration says about how to show it.
pub fn member(source: Arc<dyn Source>, config: &config::Source) -> Member {
    let config::Filter { hosts, tags, paths } = config.filter.clone();
    Member {
        source,
        set: config.set.clone(),
        parts: kind::parts(config),
        member: config.name.clone(),
        filter: namespace::Filter { hosts, tags, paths },
        access: config.access.map(access),
        zone: config.zone.clone(),
        refresh: config.refresh,
        expect_every: config.expect_every,
    }
}

/// Who may enter.
pub fn access(config: config::Access) -> namespace::Access {
    let config::Access { uid, gid, perm } = config;
    namespace::Access { uid, gid, perm }
}

/// How snapshots are named and kept fresh.
pub fn names(config: &Config) -> namespace::Options {
    let rename = |(from, to): &(String, String)| namespace::Rename { from: from.clone(), to: to.clone() };
    namespace::Options {
        time: match config.names.time {
            config::TimeStyle::Recorded => namespace::TimeStyle::Recorded,
            config::TimeStyle::Utc => namespace::TimeStyle::Utc,
            config::TimeStyle::Local => namespace::TimeStyle::Local,
        },
        time_format: config.names.format.clone(),
        refresh: config.refresh,
        shared: config.mount.allow_other,
        rename: config.names.rename.iter().map(rename).collect(),
    }
}

/// How the mount is made.
pub fn mount_spec(config: &Config) -> fuse::MountSpec {
    let source = match (&config.label, config.sources.as_slice(), config.groups.as_slice()) {
        (Some(label), ..) => label.clone(),
        (None, [only], []) => only.title.clone(),
        (None, [], [only]) => only.title.clone(),
        _ => "backupfs".to_owned(),
    };
    fuse::MountSpec { source, allow_other: config.mount.allow_other, noexec: config.mount.noexec }
}

/// How the mount is served; `has_trusted` where attributes of `trusted.` are asked for of somebody else.
pub fn serving(
    config: &Config,
    immutable: bool,
    has_trusted: bool,
    access_log: Option<Arc<AccessLog>>,
    usage: Arc<dyn Fn() -> Usage + Send + Sync>,
) -> fuse::Options {
    let mount = &config.mount;
    let range = |r: &config::IdRange| fuse::IdRange { recorded: r.recorded, shown: r.shown, count: r.count };
    fuse::Options {
        has_trusted,
        allow_other: mount.allow_other,
        xattrs: match mount.xattrs {
            config::Xattrs::All => fuse::XattrPolicy::All,
            config::Xattrs::User => fuse::XattrPolicy::User,
            config::Xattrs::None => fuse::XattrPolicy::None,
        },
        owner: match mount.owner {
            config::Owner::Recorded => fuse::Owner::Recorded,
            config::Owner::Mounter => fuse::Owner::Mounter,
            config::Owner::Root => fuse::Owner::Root,
        },
        uid: mount.uid,
        gid: mount.gid,
        idmap: fuse::IdMap {
            uids: mount.uids.iter().map(range).collect(),
            gids: mount.gids.iter().map(range).collect(),
        },
        metadata_timeout: mount.timeout / 2,
        data_timeout: mount.timeout,
        immutable,
        acls: config.may_have_acls(),
        access_log,
        usage,
    }
}
