//! A store behind restic's REST protocol: an HTTP server, or rclone on a pipe, which speaks the same.
//!
//! Keys are those of restic's default layout ([`names`]). Nothing is written, and what the server says is checked against
//! what was asked: an answer that is shorter, longer or of another range is an error.

mod client;
mod connect;
mod listing;
mod names;
mod tls;

pub use connect::Server;
pub use tls::Trust;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use hyper::header::{CONTENT_TYPE, SERVER};
use hyper::{Method, StatusCode};
use tokio::sync::Mutex;

use self::client::{Answer, Client};
use super::key::{check_key, check_limit, check_prefix, check_range};
use super::meter::Meter;
use super::{ObjectInfo, ObjectStore, Pace, counted};
use crate::error::{Again, Error, Kind, Result};
use crate::locked::Locked;
use crate::observe::metrics;

/// Sizes asked for one by one, of servers that do not list them.
const SIZES: usize = 32;

/// A listing of this age still tells what is missing: many objects may be at once.
const FRESH: Duration = Duration::from_secs(5);

/// Until something was measured.
const GUESS: Pace = Pace { latency: Duration::from_millis(30), bandwidth: 100 << 20 };

/// How a REST server is reached.
pub struct Settings {
    /// Where it listens.
    pub server: Server,
    /// The repository's path on it, as a URL has it: begins and ends with a slash.
    pub path: String,
    /// User and password; the server must want `Basic` authentication.
    pub login: Option<(String, Locked<[u8]>)>,
    /// Which certificates count, and which is ours.
    pub trust: Trust,
    /// How the store is called in messages, without secrets.
    pub name: String,
}

/// A repository of a REST server.
///
/// Its futures must be awaited inside a tokio runtime.
pub struct Rest {
    client: Client,
    name: String,
    meter: Meter,
    /// What was listed last to find out what is missing.
    listed: Mutex<Option<Names>>,
}

/// The keys of all objects of a type, a moment ago.
struct Names {
    kind: &'static str,
    keys: HashSet<String>,
    since: Instant,
}

impl Rest {
    /// The store; connects when it is first asked for something. Errors: a path that is none, and certificates that
    /// cannot be read (`Usage`).
    pub fn new(settings: Settings) -> Result<Self> {
        let name = settings.name.clone();
        let (client, meter) = (Client::new(settings)?, Meter::new(GUESS));
        Ok(Rest { client, name, meter, listed: Mutex::default() })
    }

    /// Asks for an object. That it is missing is found out.
    async fn ask(&self, method: Method, key: &str) -> Result<Answer<'_>> {
        self.found(key, self.send(method, key, None).await?).await
    }

    /// The same answer, unless it is rclone's and says that something is missing.
    async fn found<'a>(&self, key: &str, answer: Answer<'a>) -> Result<Answer<'a>> {
        match answer.status() {
            StatusCode::NOT_FOUND if is_from_rclone(&answer) => Err(self.not_opened(key).await),
            _ => Ok(answer),
        }
    }

    /// rclone says that an object is missing whenever it cannot open it. Whether that is so tells a listing.
    async fn not_opened(&self, key: &str) -> Error {
        match self.is_listed(key).await {
            Ok(false) => Error::new(Kind::NotFound, format!("{key}: rclone has no such file")),
            Ok(true) => {
                let says =
                    format!("{key}: rclone could not open it, although it is there; its own log tells why");
                Error::new(Kind::Unavailable, says).worth(Again::Soon)
            }
            Err(error) => error.context(key),
        }
    }

    /// Whether a listing names an object. The configuration is in none, but is there when keys are.
    async fn is_listed(&self, key: &str) -> Result<bool> {
        let kind = names::kind(key).unwrap_or(names::KEYS);
        // Others who miss something wait for the same listing.
        let mut listed = self.listed.lock().await;
        let names = match listed.take() {
            Some(names) if names.kind == kind && names.since.elapsed() < FRESH => names,
            _ => {
                let keys = self.objects(kind).await?.into_iter().map(|object| object.key).collect();
                Names { kind, keys, since: Instant::now() }
            }
        };
        let names = listed.insert(names);
        Ok(if key == names::CONFIG { !names.keys.is_empty() } else { names.keys.contains(key) })
    }

    /// Asks for an object, or for `range` of it: its first and last byte.
    async fn send(&self, method: Method, key: &str, range: Option<(u64, u64)>) -> Result<Answer<'_>> {
        check_key(key)?;
        let missing = || {
            let says = format!("{key}: a restic repository holds no such file");
            Error::new(Kind::NotFound, says).worth(Again::Unsent)
        };
        let path = names::path(key).ok_or_else(missing)?;
        self.client.ask(&self.meter, method, key, &path, range).await
    }

    async fn size(&self, key: &str) -> Result<u64> {
        told_size(key, self.ask(Method::HEAD, key).await?)
    }

    async fn read_whole(&self, key: &str, limit: u64) -> Result<Bytes> {
        let answer = self.ask(Method::GET, key).await?.succeeded()?;
        match answer.length() {
            Some(length) => {
                check_limit(key, length, limit)?;
                answer.exactly(length).await
            }
            None => answer.at_most(limit).await,
        }
    }

    async fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        let last = length.checked_sub(1).and_then(|less| offset.checked_add(less));
        let Some(last) = last else {
            // Nothing, or more than there can be: only the size tells whether that is an error.
            check_range(key, self.size(key).await?, offset, length)?;
            return Ok(Bytes::new());
        };
        let answer = self.send(Method::GET, key, Some((offset, last))).await?;
        // Servers differ in how they refuse what lies beyond the end, but say how long the object is.
        if let Some(total) = answer.total() {
            check_range(key, total, offset, length)?;
        }
        let answer = self.found(key, answer).await?.succeeded()?;
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            let size = answer.length();
            size.map_or(Ok(0), |size| check_range(key, size, offset, length))?;
            // All of it may be just what was wanted.
            if offset != 0 || size != Some(length) {
                let says = format!("{key}: the server does not answer ranges");
                return Err(Error::new(Kind::Unsupported, says));
            }
        } else if answer.range() != Some((offset, last)) {
            return Err(odd(key, "the server answered another range than was asked for"));
        }
        answer.exactly(length).await
    }

    /// Every object of a type, with its key.
    async fn objects(&self, kind: &str) -> Result<Vec<ObjectInfo>> {
        let folder = format!("{kind}/");
        let answer = self.client.ask(&self.meter, Method::GET, &folder, &folder, None).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            if is_from_rclone(&answer) {
                let says = format!("{folder}: rclone could not list it; its own log tells why");
                return Err(Error::new(Kind::Unavailable, says).worth(Again::Soon));
            }
            return Ok(Vec::new());
        }
        let answer = answer.succeeded()?;
        let form = answer.header(&CONTENT_TYPE).map(str::to_owned);
        let body = match answer.length() {
            Some(length) => {
                check_limit(&folder, length, listing::LONGEST)?;
                answer.exactly(length).await?
            }
            None => answer.at_most(listing::LONGEST).await?,
        };
        let listed = listing::parse(kind, form.as_deref(), &body)?;
        let keyed = listed.into_iter().filter_map(|one| Some((names::key(kind, &one.name)?, one.size)));
        let sized = keyed.map(|(key, size)| async move {
            match size {
                Some(size) => Ok(Some(ObjectInfo { key, size })),
                None => {
                    match self.send(Method::HEAD, &key, None).await.and_then(|told| told_size(&key, told)) {
                        Ok(size) => Ok(Some(ObjectInfo { key, size })),
                        // Removed since.
                        Err(error) if error.kind() == Kind::NotFound => Ok(None),
                        Err(error) => Err(error),
                    }
                }
            }
        });
        stream::iter(sized)
            .buffer_unordered(SIZES)
            .try_filter_map(async |object| Ok(object))
            .try_collect()
            .await
    }

    async fn list_below(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        check_prefix(prefix)?;
        let listings = try_join_all(names::types(prefix).map(|kind| self.objects(kind))).await?;
        let mut objects: Vec<_> = listings.into_iter().flatten().collect();
        objects.retain(|object| object.key.starts_with(prefix));
        if prefix.is_empty() {
            // rclone cannot be asked in another way whether it is there, as long as there are keys.
            let head = self.send(Method::HEAD, names::CONFIG, None).await;
            match head.and_then(|told| told_size(names::CONFIG, told)) {
                Ok(size) => objects.push(ObjectInfo { key: names::CONFIG.to_owned(), size }),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(objects)
    }
}

/// Whether an answer is rclone's, which says "not found" whenever it fails.
fn is_from_rclone(answer: &Answer<'_>) -> bool {
    answer.header(&SERVER).is_some_and(|server| server.starts_with("rclone/"))
}

/// The size in an answer about the object at `key`.
fn told_size(key: &str, answer: Answer<'_>) -> Result<u64> {
    let untold = || Error::new(Kind::Unsupported, format!("{key}: the server does not say how long it is"));
    answer.succeeded()?.length().ok_or_else(untold)
}

/// What a sound server never answers.
fn odd(key: &str, says: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{key}: {says}")).worth(Again::Soon)
}

impl ObjectStore for Rest {
    fn name(&self) -> &str {
        &self.name
    }

    fn pace(&self) -> Pace {
        self.meter.pace()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        metrics::STORE_LISTS.add(1);
        self.list_below(prefix).boxed()
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.size(key).map(|size| Ok(ObjectInfo { key: key.to_owned(), size: size? })).boxed()
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.read_whole(key, limit).map(|read| read.map(counted)).boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.read_range(key, offset, length).map(|read| read.map(counted)).boxed()
    }
}
