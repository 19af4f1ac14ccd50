//! From a configuration to a tree.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::broker::Broker;
use super::discovery::Discovery;
use super::ends::AtEnd;
use super::keep::Common;
use super::kind::{self, Opener};
use super::late::Late;
use super::together::{self, Opening, Task};
use super::translate;
use crate::config::{self, Config};
use crate::error::{Error, Kind, Result};
use crate::namespace::{Members, Namespace};
use crate::tree::Source;

/// What was opened.
pub struct Tree {
    /// The directories.
    pub namespace: Arc<Namespace>,
    /// No source of it can change what is in a snapshot.
    pub immutable: bool,
    /// Sources that could not be opened yet: each error names its source.
    pub failed: Vec<Error>,
    /// Some of those are being opened, and shown by a refresh once they are.
    pub is_opening: bool,
    /// Damaged files of those that could be, and why there is no cache: a line each, which the log has already.
    pub left_out: Vec<String>,
    /// What the sources share.
    pub common: Common,
    /// Takes away what they made, after all that comes before.
    pub at_end: AtEnd,
}

/// How long the members of a group may keep a mount waiting; after that they are listed when somebody looks.
const LISTING: Duration = Duration::from_secs(1);

/// A place on this machine that is not found in so long keeps the others waiting no longer.
const LOOKING: Duration = Duration::from_secs(1);

/// Opens all sources and lists all groups at once, and builds the tree. With one source its failure is the error; of
/// several the failing ones are reported in [`Tree::failed`] and tried again at each refresh, unless all fail. So are
/// those that take long, whose opening goes on meanwhile.
pub fn open(config: &Config, runtime: &Handle) -> Result<Tree> {
    open_brokered(config, runtime, None)
}

/// The same, with a `broker` for what takes rights.
pub(super) fn open_brokered(config: &Config, runtime: &Handle, broker: Option<Arc<Broker>>) -> Result<Tree> {
    let (common, no_cache) = Common::new(config);
    let common = common.brokered(broker, config);
    let at_end = AtEnd::of(&common.ends, runtime);
    let groups: Vec<_> =
        config.groups.iter().map(|group| Discovery::new(group.clone(), common.clone())).collect();
    let listing = runtime.spawn(join_all(groups.clone().into_iter().map(list)));
    let openings = runtime.block_on(async { together::settled(begin_all(config, &common).await).await });
    let listed =
        runtime.block_on(listing).map_err(|e| Error::caused_by(Kind::Internal, "listing ended", e))?;
    let mut left_out: Vec<String> = no_cache.into_iter().collect();
    let mut members = Vec::new();
    let mut failed = Vec::new();
    let mut is_opening = false;
    for (source, opening) in config.sources.iter().zip(openings) {
        let opened = match opening {
            Opening::Done(Ok(opened)) => {
                left_out.extend(opened.health().left_out);
                opened
            }
            Opening::Done(Err(error)) => {
                failed.push(error.clone());
                Late::new(source.clone(), common.clone(), error)
            }
            Opening::Going(task) => {
                is_opening = true;
                let late = Late::going(source.clone(), common.clone(), task);
                failed.extend(late.health().error);
                late
            }
        };
        members.push(translate::member(opened, source));
    }
    failed.extend(listed.into_iter().filter_map(Result::err));
    if failed.len() == members.len() + groups.len() {
        return Err(all_failed(failed));
    }
    // Of those that could be listed in part.
    left_out.extend(
        groups
            .iter()
            .filter(|group| group.names().is_some())
            .filter_map(|group| group.failure().map(|error| error.to_string())),
    );
    // The namespace may start tasks of its own.
    let _runtime = runtime.enter();
    let groups = groups.into_iter().map(|group| group as Arc<dyn Members>).collect();
    let namespace = Namespace::new(members, groups, translate::names(config))?;
    let immutable = config.is_immutable();
    Ok(Tree { namespace, immutable, failed, is_opening, left_out, common, at_end })
}

/// Lists a group for the first time. The listing goes on by itself as soon as it is known that it can be made, or when it
/// takes long.
pub(super) async fn list(group: Arc<Discovery>) -> Result<()> {
    let going = group.clone();
    let listing = tokio::spawn(async move { going.list().await.map(drop) });
    tokio::select! {
        biased;
        listed = listing => {
            listed.unwrap_or_else(|e| Err(Error::caused_by(Kind::Internal, "listing ended", e)))
        }
        () = group.answers() => Ok(()),
        () = tokio::time::sleep(LISTING) => Ok(()),
    }
}

/// The first failure, with a word about the others.
fn all_failed(failed: Vec<Error>) -> Error {
    let others = failed.len().saturating_sub(1);
    let first = failed.into_iter().next().unwrap_or_else(|| Error::new(Kind::Usage, "no repository given"));
    match others {
        0 => first,
        others => first.context(format!("no repository could be opened ({others} more failed)")),
    }
}

/// Opens every source at once and answers each one's outcome, in the order of `config.sources`, as it is now, and what takes
/// away what they made.
pub fn open_sources(config: &Config, runtime: &Handle) -> (Vec<Result<Arc<dyn Source>>>, AtEnd) {
    let common = Common::new(config).0;
    let at_end = AtEnd::of(&common.ends, runtime);
    let opened = runtime.block_on(async {
        let begun = SystemTime::now();
        let opened = join_all(begin_all(config, &common).await).await;
        join_all(opened.into_iter().map(|opened| as_it_is(together::flat(opened), begun))).await
    });
    (opened, at_end)
}

/// A source that shows a listing from before it was opened, or from a time that is still to come, lists anew: whoever examines it wants to hear of what there is.
async fn as_it_is(opened: Result<Arc<dyn Source>>, begun: SystemTime) -> Result<Arc<dyn Source>> {
    let source = opened?;
    let now = SystemTime::now();
    if source.health().listed.is_some_and(|listed| !(begun..=now).contains(&listed)) {
        // What goes wrong is told by its health.
        let _ = source.refresh().await;
    }
    Ok(source)
}

/// Begins to open every source.
async fn begin_all(config: &Config, common: &Common) -> Vec<Task> {
    let looked =
        join_all(config.sources.iter().map(|source| timeout(LOOKING, kind::looked_at(source)))).await;
    // One after the other: a prompt cannot be shared.
    let began = |(looked, source): (std::result::Result<Result<()>, Elapsed>, &config::Source)| match looked {
        Ok(there) => begin(there.and_then(|()| kind::opener(source, common))),
        Err(_) => begin_late(source.clone(), common.clone()),
    };
    looked.into_iter().zip(&config.sources).map(began).collect()
}

/// Opens a source whose place may hang on a task of its own, which finds that out.
fn begin_late(source: config::Source, common: Common) -> Task {
    tokio::spawn(async move { prepared(&source, &common).await?.await })
}

/// What is needed to open a source that nobody waits for a prompt of.
pub(super) async fn prepared(source: &config::Source, common: &Common) -> Result<Opener> {
    kind::looked_at(source).await?;
    let (source, common) = (source.clone(), common.clone());
    let opener = tokio::task::spawn_blocking(move || kind::opener(&source, &common)).await;
    opener.unwrap_or_else(|e| Err(Error::caused_by(Kind::Internal, "opening ended", e)))
}

/// Opens a source on a task of its own.
pub(super) fn begin(opener: Result<Opener>) -> Task {
    tokio::spawn(async move { opener?.await })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::fake::FakeSource;

    #[tokio::test]
    async fn whoever_examines_believes_no_listing_of_another_time() {
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let begun = now - Duration::from_secs(100);
        for (listed, refreshes) in [(since - 200, 1), (since - 50, 0), (since + 5000, 1)] {
            let source = FakeSource::new("r");
            source.listed_at(listed);
            as_it_is(Ok(source.clone()), begun).await.unwrap();
            assert_eq!(source.refreshes(), refreshes, "listed at {listed}, now it is {since}");
        }
    }

    #[test]
    fn the_first_of_several_failures_is_told_with_the_number_of_the_others() {
        let error = |what: &str| Error::new(Kind::Password, what);
        assert_eq!(all_failed(vec![error("a")]).to_string(), "a");
        let several = all_failed(vec![error("a"), error("b"), error("c")]);
        assert_eq!(several.to_string(), "no repository could be opened (2 more failed): a");
        assert_eq!(several.kind(), Kind::Password);
    }
}
