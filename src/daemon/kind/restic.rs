//! Repositories of restic: the stores they lie in, the cache before them, the password.

use std::path::Path;
use std::sync::Arc;

use super::Opener;
use crate::config::{self, Location};
use crate::daemon::keep::Common;
use crate::daemon::stores::store;
use crate::daemon::{place, process, recognise};
use crate::error::{Context, Result};
use crate::source::restic;
use crate::store::{Local, ObjectStore};

/// Looks whether there is a repository, where that is on this machine.
pub(super) async fn looked_at(source: &config::Source) -> Result<()> {
    let places = [Some(&source.location), source.hot.as_ref()].into_iter().flatten();
    for path in places.filter_map(Location::as_path) {
        let within = source.within.clone().filter(|_| source.location.as_path() == Some(path));
        let look = move |path: &Path| match within {
            Some(within) => recognise::restic_at(path).and_then(|()| Local::within(path, &within).map(drop)),
            None => recognise::restic_at(path),
        };
        place::look(path, look).await.context(|| source.title.clone())?;
    }
    Ok(())
}

/// What opens it once its password is known.
pub(super) fn opener(source: &config::Source, common: &Common) -> Result<Opener> {
    let (spec, shared) = (spec(source, common)?, Arc::clone(&common.shared));
    Ok(Box::pin(restic::open(spec, shared)))
}

/// What the restic room needs to open a source. Blocks.
fn spec(source: &config::Source, common: &Common) -> Result<restic::Spec> {
    process::keep_secrets()?;
    let mut source = source.clone();
    source.read_secrets()?;
    let titled = || source.title.clone();
    let hot = source.hot.as_ref().map(|hot| store(hot, &source.credentials)).transpose().context(titled)?;
    let cold = match (&source.location, &source.within) {
        (Location::Local(path), Some(within)) => {
            let local = Local::at(path, Some(within), place::of(path));
            local.map(|local| Arc::new(local) as Arc<dyn ObjectStore>)
        }
        (location, _) => store(location, &source.credentials),
    };
    let cold = cold.context(titled)?;
    let password = source.password.read(&source.name, &source.title)?;
    let share = source.cache_share.as_ref();
    let kept = |location, store| common.kept(location, &source.credentials, store, &source.title, share);
    let (cold, drawer) = kept(&source.location, cold);
    let kept = |(location, hot)| kept(location, hot).0;
    let hot = source.hot.as_ref().zip(hot).map(kept);
    Ok(restic::Spec {
        name: source.title.clone(),
        store: cold,
        hot,
        drawer,
        password: password.into_locked(),
        key_hint: source.key_hint.clone(),
    })
}
