//! The composition root: the only place that names concrete types.
//!
//! [`open`] turns a configuration into a tree, for verbs that walk it without a mount; [`mount`] serves one, from a
//! process of its own; [`unmount`] ends it.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::{Handle, Runtime};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::tree::Source;

/// What was opened.
pub struct Tree {
    /// The directories.
    pub namespace: Arc<Namespace>,
    /// Every source is an immutable chunk repository.
    pub immutable: bool,
    /// Sources that could not be opened: title and reason.
    pub failed: Vec<(String, Error)>,
}

/// A runtime for everything that waits.
pub fn runtime() -> Result<Runtime> {
    todo!()
}

/// Opens all sources at once and builds the tree. With one source its failure is the error; of several the failing
/// ones are reported in [`Tree::failed`], unless all fail.
pub fn open(_config: &Config, _runtime: &Handle) -> Result<Tree> {
    todo!()
}

/// Opens every source at once and answers each one's outcome, in the order of `config.sources`.
pub fn open_sources(_config: &Config, _runtime: &Handle) -> Vec<Result<Arc<dyn Source>>> {
    todo!()
}

/// Mounts at `mountpoint` and returns when the tree is ready; in the foreground when the mount is gone.
pub fn mount(_config: Config, _mountpoint: &Path, _foreground: bool) -> Result<()> {
    todo!()
}

/// Serves the mount whose configuration [`mount`] hands over on stdin, until it is gone.
pub fn serve_handed_over() -> Result<()> {
    todo!()
}

/// Unmounts our mount at `mountpoint`; `lazy` detaches a busy one. Errors: `Unavailable` when busy, naming by whom;
/// `Invalid` when nothing of ours is mounted there.
pub fn unmount(_mountpoint: &Path, _lazy: bool) -> Result<()> {
    todo!()
}
