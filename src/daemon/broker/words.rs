//! What a worker may ask its broker for, and what that answers. None of it says where or what to mount: the broker knows
//! that from whoever started both.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use crate::error::Kind;

/// What a worker asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// The mount, once.
    Mount,
    /// Its end: it is detached if it is there.
    Unmount,
    /// To leave the session and the stdio of whoever started it: all is ready.
    Leave,
    /// More read-ahead of the kernel.
    ReadAhead,
    /// That the kernel knows the file whose descriptor comes with this.
    OpenBacking,
    /// That it forgets one.
    CloseBacking(u32),
    /// The directories into which rsync may be writing, as far as anybody may tell.
    UnderWay,
    /// The socket at which metrics are asked for.
    Listen,
    /// A line to a [steward](super::steward), anew.
    Steward,
    /// A line to a [warden](super::warden) of the source of ZFS that has this number in the configuration, when the one
    /// before has ended.
    Warden(usize),
    /// The access log, opened; again after it was rotated.
    AccessLog,
}

/// What a broker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// It is done; what it led to comes as a descriptor.
    Done,
    /// Directories.
    Places(Vec<OsString>),
    /// The number of a file.
    Known(u32),
    /// The kernel refused.
    Errno(i32),
    /// It could not be done.
    Failed(Kind, String),
}
