//! How a mount is made and served.

use std::sync::Arc;
use std::time::Duration;

use crate::observe::access::AccessLog;
use crate::tree::Usage;

/// What the kernel is asked for at mount(2). `ro,nosuid,nodev,noatime` always.
#[derive(Clone, Debug)]
pub struct MountSpec {
    /// The source column of `/proc/mounts`: no secrets.
    pub source: String,
    /// Let other users in; brings `default_permissions` with it.
    pub allow_other: bool,
    /// Further flags that only restrict: `noexec`.
    pub noexec: bool,
}

/// How requests are answered.
#[derive(Clone)]
pub struct Options {
    /// Other users are let in, so permissions and ACLs are enforced by the kernel.
    pub allow_other: bool,
    /// Which extended attributes are shown.
    pub xattrs: XattrPolicy,
    /// Who owns what is shown.
    pub owner: Owner,
    /// Who owns everything, whatever `owner` says.
    pub uid: Option<u32>,
    /// Whose group everything is.
    pub gid: Option<u32>,
    /// Translation of recorded owners, in attributes and ACLs.
    pub idmap: IdMap,
    /// Longest wait for anything but file data.
    pub metadata_timeout: Duration,
    /// Longest wait for file data.
    pub data_timeout: Duration,
    /// Every source is an immutable chunk repository: opens need no message, unless they are told of.
    pub immutable: bool,
    /// Of nodes that seem to have no extended attributes the privileged may see some of `trusted.`: the node tells.
    pub has_trusted: bool,
    /// Something that is shown may have ACLs. Where nothing may, the kernel does not enforce any, and whoever asks for them
    /// is told so once.
    pub acls: bool,
    /// Where opens are told of. Files then have pages of their own in each snapshot.
    pub access_log: Option<Arc<AccessLog>>,
    /// What `statfs` shows; asked at each call, answers from memory.
    pub usage: Arc<dyn Fn() -> Usage + Send + Sync>,
}

/// Which extended attributes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrPolicy {
    /// All that were recorded.
    #[default]
    All,
    /// Only those of the `user.` name space.
    User,
    /// None: getxattr answers ENOSYS, and the kernel stops asking.
    None,
}

/// Who owns what is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The recorded ids.
    #[default]
    Recorded,
    /// Whoever mounted.
    Mounter,
    /// Root.
    Root,
}

/// Ranges of ids that are shown as others; ids in no range stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// For owners.
    pub uids: Vec<IdRange>,
    /// For groups.
    pub gids: Vec<IdRange>,
}

/// `count` ids from `recorded` are shown as those from `shown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First recorded id.
    pub recorded: u32,
    /// First shown id.
    pub shown: u32,
    /// How many.
    pub count: u32,
}
