//! From what the configuration says of a source to what opens it: a file for each kind, and here which one.

mod directory;
mod objects;
mod restic;
pub(super) mod zfs;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::keep::Common;
use crate::config::{self, SourceKind};
use crate::error::Result;
use crate::tree::Source;

/// Opens a source of which everything is known that it takes: nobody is asked for a password any more.
pub(super) type Opener = BoxFuture<'static, Result<Arc<dyn Source>>>;

/// Looks whether there is anything at its place, where that is on this machine: nobody should type a password for what
/// is not there.
pub(super) async fn looked_at(source: &config::Source) -> Result<()> {
    match source.kind {
        SourceKind::Restic => restic::looked_at(source).await,
        SourceKind::Directory => directory::looked_at(source).await,
        // Only its program, or its server, can tell.
        SourceKind::Zfs | SourceKind::Objects => Ok(()),
    }
}

/// What opens a source that was looked at. Blocks; may run commands and ask on the terminal.
pub(super) fn opener(source: &config::Source, common: &Common) -> Result<Opener> {
    match source.kind {
        SourceKind::Restic => restic::opener(source, common),
        SourceKind::Directory => directory::opener(source, common),
        SourceKind::Zfs => zfs::opener(source, common),
        SourceKind::Objects => objects::opener(source, common),
    }
}

/// What its place names besides hosts, paths and times, for templates of set names.
pub(super) fn parts(source: &config::Source) -> Vec<String> {
    match source.kind {
        SourceKind::Restic | SourceKind::Objects => Vec::new(),
        SourceKind::Directory => directory::parts(source),
        SourceKind::Zfs => zfs::parts(source),
    }
}
