//! `backupfs cache`: what is kept of distant repositories, less of it, none of it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::exit::Code;
use super::print::{self, Column};
use crate::config::{self, Typed};
use crate::daemon::{self, CacheReport, CachedStore};
use crate::error::{Error, Kind, Result};
use crate::observe::json_name;
use crate::tree::Time;

/// Shows what the cache directory holds of which repository, and makes it smaller
///
/// Mounts that use the cache go on meanwhile: what is gone they fetch again when it is wanted.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// A configuration file [default: /etc/backupfs/config.toml, else ~/.config/backupfs/config.toml]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Options as in docs/options.md, separated by commas (repeatable): cache-dir, cache-size
    #[arg(short, value_name = "KEY[=VALUE],…", global = true)]
    options: Vec<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Shows what it holds (what `backupfs cache` alone does)
    Show,
    /// Makes it no larger than SIZE (such as 5G), now and for all mounts; `none` takes that back
    Limit {
        /// A size such as 500M or 5G, or none
        size: String,
    },
    /// Empties it, the indexes included
    Clear,
    /// Removes what it holds of one repository
    Purge {
        /// The repository as `backupfs cache` shows it: its name or its place
        source: String,
    },
}

impl Args {
    /// Looks after the cache directory.
    pub fn run(self) -> Result<Code> {
        let typed = Typed { file: self.config.clone(), options: self.options.clone(), ..Typed::default() };
        let none = || Error::new(Kind::Usage, "there is no cache: cache-dir is none");
        let (dir, size) = config::resolve_cache(&typed)?.ok_or_else(none)?;
        match &self.verb {
            None | Some(Verb::Show) => self.show(&dir, size),
            Some(Verb::Limit { size }) => {
                let bytes = if size == "none" { None } else { Some(config::size(size)?) };
                self.gone(daemon::cache_limit(&dir, bytes)?)
            }
            Some(Verb::Clear) => self.gone(daemon::cache_clear(&dir)?),
            Some(Verb::Purge { source }) => {
                let nothing = || {
                    let says = format!(
                        "nothing is kept of \"{}\"; `backupfs cache` shows what is",
                        print::visible(source.as_bytes())
                    );
                    Error::new(Kind::NotFound, says)
                };
                self.gone(daemon::cache_purge(&dir, source)?.ok_or_else(nothing)?)
            }
        }
    }

    fn show(&self, dir: &Path, size: u64) -> Result<Code> {
        let report = daemon::cache_report(dir)?;
        if self.json {
            print::json(&in_json(dir, size, &report))?;
        } else {
            print::stdout(text(dir, size, &report).as_bytes())?;
        }
        Ok(Code::Ok)
    }

    fn gone(&self, bytes: u64) -> Result<Code> {
        if self.json {
            print::json(&json!({ "removed_bytes": bytes }))?;
        } else {
            print::stdout(format!("{} removed\n", print::size(bytes)).as_bytes())?;
        }
        Ok(Code::Ok)
    }
}

fn in_json(dir: &Path, size: u64, report: &CacheReport) -> Value {
    let CacheReport { metadata, data, indexes, limit, stores } = report;
    let store = |store: &CachedStore| {
        let (name, source) = store.names.clone().unzip();
        json!({
            "source": source, "store": name, "entries": store.entries, "bytes": store.bytes,
            "listed": store.listed.map(|when| print::utc(whole_second(when))),
        })
    };
    let (path, exact) = json_name(dir.as_os_str().as_encoded_bytes());
    let mut value = json!({
        "directory": path, "cache_size": size, "limit": limit, "metadata_bytes": metadata, "data_bytes": data,
        "index_bytes": indexes, "stores": stores.iter().map(store).collect::<Vec<_>>(),
    });
    if let (Some(exact), Some(fields)) = (exact, value.as_object_mut()) {
        fields.insert("directory_base64".into(), exact.into());
    }
    value
}

fn text(dir: &Path, size: u64, report: &CacheReport) -> String {
    let CacheReport { metadata, data, indexes, limit, stores } = report;
    let allowed = limit.map_or(size, |limit| limit.min(size));
    let mut text = format!(
        "{}: {} of {}: {} of directories and the like, {} of file content; and {} of indexes\n",
        print::visible(dir.as_os_str().as_encoded_bytes()),
        print::size(metadata + data),
        print::size(allowed),
        print::size(*metadata),
        print::size(*data),
        print::size(*indexes),
    );
    if !stores.is_empty() {
        let columns = [
            Column("REPOSITORY", false),
            Column("PLACE", false),
            Column("LISTED", false),
            Column("ENTRIES", true),
            Column("SIZE", true),
        ];
        text.push_str(&print::table(&columns, &stores.iter().map(cells).collect::<Vec<_>>()));
    }
    text
}

fn cells(store: &CachedStore) -> Vec<String> {
    let (name, title) = store.names.as_ref().map_or(("?", "?"), |(name, title)| (name, title));
    let listed = store.listed.map_or_else(|| "-".to_owned(), |when| print::local_minute(whole_second(when)));
    [title, name, &listed, &store.entries.to_string(), &print::size(store.bytes)]
        .map(|cell| print::visible(cell.as_bytes()))
        .into()
}

fn whole_second(when: SystemTime) -> Time {
    let secs = when.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Time { secs: secs.try_into().unwrap_or(i64::MAX), nanos: 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report() -> CacheReport {
        let listed = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
        let names = Some(("s3:https://h/b".into(), "home\x1b".into()));
        let stores = vec![
            CachedStore { names, listed, entries: 12, bytes: 3 << 20 },
            CachedStore { names: None, listed: None, entries: 1, bytes: 7 },
        ];
        CacheReport { metadata: 1 << 20, data: 2 << 20, indexes: 500, limit: Some(1 << 30), stores }
    }

    #[test]
    fn it_reads_as_a_table() {
        let text = text(Path::new("/var/cache/backupfs"), 10 << 30, &report());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "/var/cache/backupfs: 3.0 MiB of 1.0 GiB: 1.0 MiB of directories and the like, 2.0 MiB of file content; and 500 B of indexes"
        );
        assert!(lines[1].starts_with("REPOSITORY  PLACE"), "{text}");
        assert!(
            lines[2].starts_with("home\\x1b    s3:https://h/b  1970-01-0")
                && lines[2].ends_with("12  3.0 MiB"),
            "{text}"
        );
        assert!(
            lines[3].starts_with("?           ?               -") && lines[3].ends_with("1      7 B"),
            "{text}"
        );
    }

    #[test]
    fn json_has_it_in_bytes() {
        let value = in_json(Path::new("/c"), 10 << 30, &report());
        assert_eq!((&value["limit"], &value["data_bytes"]), (&json!(1 << 30), &json!(2 << 20)));
        assert_eq!(value["stores"][0]["source"], "home\x1b");
        assert_eq!(value["stores"][0]["listed"], "1970-01-02T00:00:00Z");
        assert_eq!(value["stores"][1]["store"], Value::Null);
    }
}
