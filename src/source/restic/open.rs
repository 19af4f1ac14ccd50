//! Opens a repository in three round trips: its configuration with the lists of keys and snapshots, the keys with the list
//! of index files, then what is listed.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::{join, try_join};

use super::Spec;
use super::catalogue::Catalogue;
use super::format::config::{self, Config};
use super::format::crypto::MasterKey;
use super::format::{keys, unpacked};
use super::layout::{self, FileKind, Layout, Listed};
use super::repository::Repository;
use crate::cache::Drawer;
use crate::error::{Context, Error, Kind, Result};
use crate::source::chunked::{Id, Shared, Shelf, Tender};
use crate::store::ObjectStore;
use crate::tree::Source;

/// Opens a repository: key, config, snapshots, then index. Errors name the repository: `Password`, `Unsupported`
/// version, `NotFound` (no repository there), `Corrupt`.
pub async fn open(spec: Spec, shared: Arc<Shared>) -> Result<Arc<dyn Source>> {
    let name = spec.name.clone();
    open_named(spec, shared).await.context(|| name)
}

async fn open_named(spec: Spec, shared: Arc<Shared>) -> Result<Arc<dyn Source>> {
    let Spec { name, store, hot, drawer, password, key_hint } = spec;
    let hot_config = async {
        match &hot {
            Some(hot) => layout::hot_config(&**hot).await.context(|| "repo-hot"),
            None => Ok(None),
        }
    };
    let unlocked = async {
        let (stored, hot_stored, detected) =
            join!(layout::config(&*store), hot_config, Layout::detect(Arc::clone(&store), hot.clone()));
        // That there is no repository is told before what else this leads to.
        let (stored, hot_stored, (layout, keys)) = (stored?, hot_stored?, detected?);
        let keys = match read_keys(&layout, &keys, key_hint.as_deref()).await {
            // The listing may have come wrong.
            Err(error) if error.kind() == Kind::NotFound => {
                read_keys(&layout, &layout.keys().await?, key_hint.as_deref()).await?
            }
            keys => keys?,
        };
        let unlock = move || keys::unlock(&keys, &password, key_hint.as_deref());
        let unlocked = shared.pool.run(unlock).await??;
        Ok((stored, hot_stored, layout, unlocked))
    };
    // Nearly always it has the layout of today, so its lists are asked for before that is known. What is wrong with them
    // is told after what is wrong with the rest.
    let lists = async { Ok(layout::first_lists(&*store, false).await) };
    let ((stored, hot_stored, layout, unlocked), listed) = try_join!(unlocked, lists)?;
    let listed = if layout.is_legacy() { layout.lists().await? } else { listed? };
    tracing::debug!("{name}: opened with key {}", unlocked.id);
    let cold = sound_config(&*store, &unlocked.key, &stored).await.context(|| "config")?;
    check_pair(&cold, hot.as_deref(), hot_stored, &unlocked.key)?;
    let mark = drawer.as_ref().map(Drawer::mark);
    let index = stored_index(name.clone(), cold.id.clone(), mark, Arc::clone(&shared)).await?;
    let catalogue =
        Catalogue::load(name, layout, drawer, unlocked.key, Arc::clone(&shared), index, listed).await?;
    Ok(Repository::source(cold.id, catalogue, shared))
}

/// What earlier mounts left of the index of repository `id`: nothing where there is no cache or it cannot be used. What
/// is kept of its store bears `mark`.
async fn stored_index(
    name: String,
    id: String,
    mark: Option<String>,
    shared: Arc<Shared>,
) -> Result<Arc<Tender>> {
    let open = move || {
        let shelf = shared.cache.as_ref().and_then(|cache| {
            // An id is as its writer likes; only one in the usual form becomes a name.
            let shelf = id.parse::<Id>();
            let shelf = shelf.and_then(|id| Shelf::open(cache, &id.to_string(), Arc::clone(&shared.pages)));
            let shelf =
                shelf.and_then(|shelf| mark.iter().try_for_each(|mark| shelf.note(mark)).map(|()| shelf));
            shelf.map_err(|error| tracing::warn!("{name}: the index stays in memory: {error}")).ok()
        });
        Tender::new(shelf.map(Arc::new))
    };
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|e| Error::caused_by(Kind::Internal, "opening the index ended", e))
}

/// Key files fetched at a time.
const FETCHES: usize = 16;

/// The key files that can be read, of those that are worth a try with this `hint`; when none can, why.
async fn read_keys(layout: &Layout, listed: &[Listed], hint: Option<&str>) -> Result<Vec<(Id, Bytes)>> {
    if listed.is_empty() {
        return Err(Error::new(Kind::Corrupt, "the repository has no key files"));
    }
    let read = |id: Id| async move {
        let mut answer = Err(Error::new(Kind::NotFound, "no store has it"));
        for copy in layout.copies() {
            answer = sound_key(layout, copy, &id).await;
            if answer.is_ok() {
                break;
            }
        }
        (id, answer)
    };
    let mut keys = Vec::new();
    let mut failure = None;
    let mut reading = stream::iter(keys::worth_reading(listed.iter().map(|file| file.id).collect(), hint))
        .map(read)
        .buffered(FETCHES);
    while let Some((id, stored)) = reading.next().await {
        match stored {
            Ok(stored) => keys.push((id, stored)),
            Err(error) => {
                tracing::warn!("key {id} cannot be read: {error}");
                failure = Some(error.context(format!("key {id} cannot be read")));
            }
        }
    }
    match failure {
        Some(error) if keys.is_empty() => Err(error),
        _ => Ok(keys),
    }
}

/// A key file; one that is not what its name says is fetched once more, because it may have been mixed up or cut on its
/// way. Then it is for the password to tell whether it can be used.
async fn sound_key(layout: &Layout, copy: layout::Replica<'_>, id: &Id) -> Result<Bytes> {
    let stored = layout.get(copy, FileKind::Key, id).await?;
    match unpacked::check_name(id, &stored) {
        Ok(()) => Ok(stored),
        Err(_) => layout.get(copy, FileKind::Key, id).await,
    }
}

/// The configuration in `stored`, or what another fetch says when that cannot be it.
async fn sound_config(store: &dyn ObjectStore, key: &MasterKey, stored: &[u8]) -> Result<Config> {
    match read_config(key, stored) {
        Err(error) if error.kind() == Kind::Corrupt => read_config(key, &layout::config(store).await?),
        read => read,
    }
}

fn read_config(key: &MasterKey, stored: &[u8]) -> Result<Config> {
    config::parse(&unpacked::open_unnamed(key, stored)?)
}

/// Refuses a hot repository in the place of the cold one, and two that are no pair.
fn check_pair(
    cold: &Config,
    hot: Option<&dyn ObjectStore>,
    hot_stored: Option<Bytes>,
    key: &MasterKey,
) -> Result<()> {
    let refuse = |message: String| Err(Error::new(Kind::Unsupported, message));
    if cold.is_hot {
        return refuse(
            "this is the hot part of a hot/cold pair, which holds no file content: \
             give the cold repository and name this one with `repo-hot`"
                .into(),
        );
    }
    let (Some(hot), Some(stored)) = (hot, hot_stored) else { return Ok(()) };
    let config = read_config(key, &stored).context(|| "repo-hot: config")?;
    if !config.is_hot {
        return refuse(format!("repo-hot: {} is not the hot part of a hot/cold pair", hot.name()));
    }
    if config.id != cold.id {
        return refuse(format!("repo-hot: {} belongs to another repository", hot.name()));
    }
    Ok(())
}
