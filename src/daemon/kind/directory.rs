//! Directories of snapshots.

use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Opener;
use crate::config;
use crate::daemon::broker::Steward;
use crate::daemon::keep::Common;
use crate::daemon::place;
use crate::error::{Context, Error, Result};
use crate::namespace;
use crate::source::directory::{self, Pattern, Spec, UnderWay};

/// Looks whether what lies above the pattern's named parts is there.
pub(super) async fn looked_at(source: &config::Source) -> Result<()> {
    let Some(path) = source.local_place() else { return Ok(()) };
    let is_there = |path: &Path| match std::fs::read_dir(path) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::io(path.display().to_string(), e)),
    };
    place::look(&path, is_there).await.context(|| source.title.clone())
}

/// What opens it.
pub(super) fn opener(source: &config::Source, common: &Common) -> Result<Opener> {
    let zone = source.zone.as_deref().map(namespace::zone).transpose().context(|| source.title.clone())?;
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let spec = Spec {
        name: source.title.clone(),
        pattern: source.location.as_path().unwrap_or(Path::new("")).to_owned(),
        time_format: source.time_format.clone(),
        zone: zone.unwrap_or_else(TimeZone::system),
        machine: Some(machine.into()).filter(|name: &Arc<str>| !name.is_empty()),
        refresh: source.refresh.unwrap_or(common.refresh),
        place: place::of(&source.local_place().unwrap_or_default()),
        under_way: under_way(common),
        rights: common.broker.clone().map(|broker| Steward::of(broker) as _),
    };
    Ok(Box::pin(directory::open(spec, Arc::clone(&common.shared))))
}

/// Who tells the directories into which rsync is writing: a broker, where this process may not look.
fn under_way(common: &Common) -> UnderWay {
    match &common.broker {
        Some(broker) => {
            let broker = Arc::clone(broker);
            Arc::new(move || broker.under_way())
        }
        None => Arc::new(directory::under_way),
    }
}

/// The named parts of its pattern; none of one that is wrong, which opening it tells.
pub(super) fn parts(source: &config::Source) -> Vec<String> {
    let pattern = source.location.as_path().and_then(|path| Pattern::parse(path).ok());
    pattern.iter().flat_map(Pattern::parts).map(ToString::to_string).collect()
}
