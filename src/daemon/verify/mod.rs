//! Reads a share of all files, another each day, and says which are damaged.
//!
//! Directories are walked once however many snapshots hold them, and of their files those are read whose number, a hash
//! of path and content, falls into the day's part: after as many days as there are parts each was read. Nothing comes
//! from a cache of ours: stores are asked themselves, and every blob is authenticated and checked against its id.

mod pace;
mod progress;
mod walk;

pub use pace::Stop;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::runtime::Runtime;

use self::pace::Pace;
use self::progress::Progress;
use self::walk::Walk;
use super::discovery::Discovery;
use super::keep::Common;
use super::open::open_sources;
use crate::cache::Folder;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::namespace::Members;
use crate::tree::Source;

/// Which share of all files is read: `part` of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    part: u64,
    of: u64,
}

impl Share {
    /// All files.
    pub const ALL: Share = Share { part: 1, of: 1 };

    /// What `1/30` means. `None` for what is no share.
    pub fn parse(text: &str) -> Option<Self> {
        let (part, of) = text.split_once('/')?;
        let share = Share { part: part.trim().parse().ok()?, of: of.trim().parse().ok()? };
        (share.part > 0 && share.part <= share.of && share.of <= 1_000_000).then_some(share)
    }

    /// Whether the file of this number is one of the day's.
    fn has(self, number: u128, day: u64) -> bool {
        let of = u128::from(self.of);
        let first = u128::from(day) * u128::from(self.part) % of;
        (number % of + of - first) % of < u128::from(self.part)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

/// What is to be read, and how.
pub struct Wish<'a> {
    /// Which files.
    pub share: Share,
    /// Bytes a second that stores may be asked for.
    pub rate: Option<u64>,
    /// Only this source, group, or member (`GROUP/MEMBER`).
    pub only: Option<&'a str>,
    /// Ends it early.
    pub stop: Stop,
    /// Hears how it goes.
    pub told: &'a (dyn Fn(&Verified) + Sync),
}

/// What was found out about one source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// How the source is called.
    pub source: String,
    /// Its identity, once it could be opened.
    pub id: Option<String>,
    /// The day whose part was read, in days since 1970.
    pub day: u64,
    /// It goes on with what an earlier run began.
    pub resumed: bool,
    /// Everything was looked at.
    pub complete: bool,
    /// Snapshots looked at so far, and all there are.
    pub snapshots: usize,
    /// See `snapshots`.
    pub snapshots_of: usize,
    /// Different directories that were read.
    pub directories: u64,
    /// Files that were read, in this run.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What is damaged, those of the runs before that it goes on with included.
    pub damaged: Vec<Damaged>,
    /// Flaws that cost no content: names that cannot be shown, blobs that another copy replaced.
    pub flaws: u64,
    /// Why it could not be opened, or was not read to its end.
    pub error: Option<String>,
}

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Damaged {
    /// The id of the snapshot in which it was found; others may hold it too.
    pub snapshot: String,
    /// Where in it.
    pub path: String,
    /// The pack that is damaged or missing.
    pub pack: Option<String>,
    /// The blob that cannot be had.
    pub blob: Option<String>,
    /// What is wrong.
    pub error: String,
}

impl Verified {
    /// Whether all was looked at and is as it should be.
    pub fn is_sound(&self) -> bool {
        self.complete && self.damaged.is_empty() && self.flaws == 0 && self.error.is_none()
    }
}

/// Reads what `wish` says of the sources of `config`, one after the other. Errors: `Usage` when it names none of them.
pub fn verify(config: &Config, wish: &Wish<'_>, runtime: &Runtime) -> Result<Vec<Verified>> {
    let mut config = config.clone();
    // What is kept of distant repositories would be read instead of them.
    config.cache_size = 0;
    let is_wanted = |title: &str| wish.only.is_none_or(|only| only == title);
    config.sources.retain(|source| is_wanted(&source.title) || is_wanted(&source.name));
    let member = wish.only.and_then(|only| only.split_once('/'));
    config
        .groups
        .retain(|group| is_wanted(&group.title) || member.is_some_and(|(name, _)| name == group.name));
    if let (Some(only), [], []) = (wish.only, config.sources.as_slice(), config.groups.as_slice()) {
        return Err(Error::new(
            Kind::Usage,
            format!("no source is called \"{only}\"; `backupfs check` names them"),
        ));
    }
    let mut all = Verifier { wish, runtime, cache: cache(config.cache_dir.as_deref()), done: Vec::new() };
    let titles: Vec<String> = config.sources.iter().map(|source| source.title.clone()).collect();
    let (opened, _at_end) = open_sources(&config, runtime.handle());
    for (title, opened) in titles.iter().zip(opened) {
        all.one(title, opened);
    }
    all.groups(&config, member.map(|(_, member)| member));
    Ok(all.done)
}

/// Where progress is kept. Without it every run begins anew.
fn cache(dir: Option<&Path>) -> Option<Folder> {
    let opened = dir.map(|dir| Folder::open(dir).and_then(|cache| cache.below("verify")));
    opened?.map_err(|error| tracing::warn!("an interrupted run cannot be gone on with: {error}")).ok()
}

struct Verifier<'a> {
    wish: &'a Wish<'a>,
    runtime: &'a Runtime,
    cache: Option<Folder>,
    done: Vec<Verified>,
}

impl Verifier<'_> {
    fn groups(&mut self, config: &Config, only: Option<&str>) {
        let common = Common::new(config).0;
        for group in &config.groups {
            let mut group = group.clone();
            let listed = group.read_secrets().and_then(|()| {
                let _runtime = self.runtime.enter();
                let discovery = Discovery::new(group.clone(), common.clone());
                self.runtime.block_on(discovery.list()).map(|names| (discovery, names))
            });
            let (discovery, names) = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    self.one(&group.title, Err(error));
                    continue;
                }
            };
            for name in names.iter().filter(|name| only.is_none_or(|only| only == &***name)) {
                let title = format!("{}/{name}", group.title);
                match self.runtime.block_on(discovery.open(name)) {
                    Ok(members) => members.into_iter().for_each(|member| self.one(&title, Ok(member.source))),
                    Err(error) => self.one(&title, Err(error)),
                }
            }
        }
    }

    fn one(&mut self, title: &str, opened: Result<Arc<dyn Source>>) {
        let mut found = Verified { source: title.to_owned(), ..Verified::default() };
        if !self.wish.stop.is_set() {
            match opened {
                Ok(source) => self.read(&*source, &mut found),
                Err(error) => found.error = Some(error.to_string()),
            }
        }
        self.done.push(found);
    }

    fn read(&self, source: &dyn Source, found: &mut Verified) {
        found.id = Some(source.id().to_owned());
        let today = u64::try_from(Timestamp::now().as_second() / 86_400).unwrap_or(0);
        let progress = match Progress::open(self.cache.as_ref(), source.id(), self.wish.share, today) {
            Ok(progress) => progress,
            Err(error) => {
                found.error = Some(error.to_string());
                return;
            }
        };
        (found.day, found.resumed) = (progress.day(), progress.is_resumed());
        found.damaged.extend_from_slice(progress.damaged());
        let pace = Pace::new(self.wish.rate, self.wish.stop.clone());
        let mut walk = Walk::new(source, self.wish.share, pace, progress, found, self.wish.told);
        self.runtime.block_on(walk.run());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_a_whole() {
        for (text, share) in [("1/30", Some((1, 30))), ("2/5", Some((2, 5))), (" 1 / 1 ", Some((1, 1)))] {
            assert_eq!(Share::parse(text), share.map(|(part, of)| Share { part, of }), "{text}");
        }
        for text in ["", "30", "0/30", "31/30", "1/0", "-1/2", "1/2/3", "1/9999999"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
        assert_eq!(Share { part: 1, of: 30 }.to_string(), "1/30");
    }

    #[test]
    fn every_file_is_read_once_in_as_many_days_as_there_are_parts() {
        for (part, of) in [(1, 30), (1, 1), (1, 7), (3, 12)] {
            let share = Share { part, of };
            for number in [0, 1, 29, 12_345, u128::MAX] {
                for first in [0, 20_000] {
                    let days = (first..first + of / part).filter(|day| share.has(number, *day)).count();
                    assert_eq!(days, 1, "{share} of {number} from {first}");
                }
            }
        }
    }

    #[test]
    fn the_parts_of_a_day_are_of_about_one_size() {
        let share = Share { part: 1, of: 10 };
        let number = |n: u32| walk::number(crate::tree::Identity::Path, &format!("/file {n}"));
        let chosen = (0..10_000).filter(|n| share.has(number(*n), 3)).count();
        assert!((900..1_100).contains(&chosen), "{chosen}");
    }
}
