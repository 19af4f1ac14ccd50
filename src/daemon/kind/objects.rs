//! Buckets: who asks, what stands between here and the server, where what was listed is kept.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Opener;
use crate::config::{self, Location};
use crate::daemon::keep::Common;
use crate::daemon::{process, s3, stores};
use crate::error::{Context, Error, Kind, Result};
use crate::namespace;
use crate::source::objects::{self, History, Metadata, Spec};

/// What opens it once its keys are known.
pub(super) fn opener(source: &config::Source, common: &Common) -> Result<Opener> {
    let (spec, shared) = (spec(source, common)?, Arc::clone(&common.shared));
    Ok(Box::pin(objects::open(spec, shared)))
}

/// What the objects room needs to open a source. Blocks.
fn spec(source: &config::Source, common: &Common) -> Result<Spec> {
    process::keep_secrets()?;
    let mut source = source.clone();
    source.read_access()?;
    let Location::S3(place) = &source.location else {
        return Err(Error::new(Kind::Internal, format!("{}: is no bucket", source.title)));
    };
    let titled = || source.title.clone();
    let bucket = s3::store(place, &source.credentials).context(titled)?;
    let bucket = stores::guarded_bucket(Arc::new(bucket), &source.location);
    let (drawer, identity) = common.drawer(&source.location, &source.credentials, &source.title);
    let zone = source.zone.as_deref().map(namespace::zone).transpose().context(titled)?;
    Ok(Spec {
        name: source.title.clone(),
        identity,
        bucket,
        host: place.bucket.clone(),
        path: format!("/{}", place.prefix),
        drawer,
        history: source.history.map(history),
        zone: zone.unwrap_or_else(TimeZone::system),
        metadata: metadata(source.metadata),
    })
}

fn history(history: config::History) -> History {
    match history {
        config::History::Off => History::Off,
        config::History::Days => History::Days,
        config::History::Hours => History::Hours,
        config::History::Changes => History::Changes,
    }
}

fn metadata(metadata: config::Metadata) -> Metadata {
    match metadata {
        config::Metadata::Auto => Metadata::Auto,
        config::Metadata::All => Metadata::All,
        config::Metadata::Off => Metadata::Off,
    }
}
