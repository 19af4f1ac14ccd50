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

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use hyper::header::{CONTENT_TYPE, SERVER};
use hyper::{Method, StatusCode};

use self::client::{Answer, Client};
use super::key::{check_key, check_limit, check_prefix, check_range};
use super::meter::Meter;
use super::{ObjectInfo, ObjectStore, Pace, counted};
use crate::error::{Again, Error, Kind, Result};
use crate::observe::metrics;

/// Sizes asked for one by one, of servers that do not list them.
const SIZES: usize = 32;

/// Until something was measured.
const GUESS: Pace = Pace { latency: Duration::from_millis(30), bandwidth: 100 << 20 };

/// How a REST server is reached.
pub struct Settings {
    /// Where it listens.
    pub server: Server,
    /// The repository's path on it, as a URL has it: begins and ends with a slash.
    pub path: String,
    /// User and password; the server must want `Basic` authentication.
    pub login: Option<(String, zeroize::Zeroizing<Vec<u8>>)>,
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
}

impl Rest {
    /// The store; connects when it is first asked for something. Errors: a path that is none, and certificates that
    /// cannot be read (`Usage`).
    pub fn new(settings: Settings) -> Result<Self> {
        let name = settings.name.clone();
        Ok(Rest { client: Client::new(settings)?, name, meter: Meter::new(GUESS) })
    }

    /// Asks for an object, or for `range` of it: its first and last byte.
    async fn send(&self, method: Method, key: &str, range: Option<(u64, u64)>) -> Result<Answer<'_>> {
        check_key(key)?;
        let missing = || Error::new(Kind::NotFound, format!("{key}: a restic repository holds no such file"));
        let path = names::path(key).ok_or_else(missing)?;
        self.client.ask(&self.meter, method, key, &path, range).await
    }

    async fn size(&self, key: &str) -> Result<u64> {
        let answer = self.send(Method::HEAD, key, None).await?.succeeded()?;
        answer.length().ok_or_else(|| {
            Error::new(Kind::Unsupported, format!("{key}: the server does not say how long it is"))
        })
    }

    async fn read_whole(&self, key: &str, limit: u64) -> Result<Bytes> {
        let answer = self.send(Method::GET, key, None).await?.succeeded()?;
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
        let answer = answer.succeeded()?;
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
            // rclone answers so whenever it fails.
            let from_rclone = answer.header(&SERVER).is_some_and(|server| server.starts_with("rclone/"));
            if from_rclone {
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
                None => match self.size(&key).await {
                    Ok(size) => Ok(Some(ObjectInfo { key, size })),
                    // Removed since.
                    Err(error) if error.kind() == Kind::NotFound => Ok(None),
                    Err(error) => Err(error),
                },
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
            match self.size(names::CONFIG).await {
                Ok(size) => objects.push(ObjectInfo { key: names::CONFIG.to_owned(), size }),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(objects)
    }
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
