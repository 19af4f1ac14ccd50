//! A store in an S3 bucket, on `aws-sdk-s3`.
//!
//! A [`Service`] is an endpoint as somebody: connections, TLS sessions and credentials are its, and every [`S3`] store
//! made of it shares them. Nothing is retried here but a request that was made wrongly and is put right by what the
//! server answered: signed for another region, by a clock that is off, with credentials that have expired meanwhile, or
//! listed in a version that the server does not know. Each is put right once.
//!
//! As an [`ObjectStore`] it sends no `If-Match`: every answer is one request, and what a caller puts together from several
//! (blobs of a pack) it authenticates one by one, so a replaced object is found out and an equal one need not fail. As a
//! [`Bucket`](super::bucket::Bucket) it does: nothing else tells that a plain object was replaced.

mod amazon;
mod bounded;
mod connector;
mod failure;
mod identity;
mod listing;
mod service;
mod text;
mod transport;
mod versions;

pub use identity::Identity;
pub use service::{Addressing, Options, Service};

use std::error::Error as StdError;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;

use self::failure::{Asked, Failure, Refused};
use self::service::Session;
use super::bucket::Pinned;
use super::key::{check_key, check_limit, check_prefix, check_range};
use super::meter::Meter;
use super::transfer::{at_most, exactly};
use super::{Level, ObjectInfo, ObjectStore, Pace, counted};
use crate::error::{Again, Error, Kind, Result};
use crate::observe::metrics;

/// An object store in the same country.
const USUAL: Pace = Pace { latency: Duration::from_millis(30), bandwidth: 100 << 20 };

/// The objects below a prefix of a bucket.
///
/// One without a bucket is all buckets of the service: it only lists them, as its first level.
pub struct S3 {
    service: Arc<Service>,
    name: String,
    /// Empty for all of them.
    bucket: String,
    /// Ends in a slash, or is empty for the whole bucket.
    prefix: String,
    /// Where the bucket turned out to be.
    region: ArcSwapOption<String>,
    meter: Meter,
}

/// What of a request has been put right already.
#[derive(Default)]
struct Corrected {
    region: bool,
    clock: bool,
    credentials: bool,
}

impl S3 {
    /// The store below `prefix` (without a slash at either end, or empty) of `bucket`; `name` is what messages call it.
    pub fn new(service: Arc<Service>, name: impl Into<String>, bucket: &str, prefix: &str) -> Self {
        S3 {
            service,
            name: name.into(),
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            region: ArcSwapOption::empty(),
            meter: Meter::new(USUAL),
        }
    }

    /// The key in the bucket. Errors: `Invalid`.
    fn key(&self, key: &str) -> Result<String> {
        check_key(key)?;
        Ok(format!("{}{key}", self.prefix))
    }

    fn asked<'a>(&'a self, key: &'a str) -> Asked<'a> {
        let (endpoint, signed) = (self.service.endpoint(), self.service.signs());
        Asked { key, bucket: &self.bucket, endpoint, signed }
    }

    /// Makes a request, and makes it again when what was wrong about it could be put right. Answers how long the answer
    /// took to begin, too.
    async fn request<T, E, F>(&self, send: impl Fn(Client) -> F + Send + Sync) -> Outcome<(T, Duration)>
    where
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>> + Send,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let mut corrected = Corrected::default();
        loop {
            let region = self.region.load_full();
            let session = self.service.session().await.map_err(Failed::Error)?;
            let client = session.client(region.as_deref().map(String::as_str));
            let began = Instant::now();
            let error = match send(client).await {
                Ok(answer) => return Ok((answer, began.elapsed())),
                Err(error) => error,
            };
            let failure = Failure::of(&error, self.service.endpoint());
            let again = matches!(&failure, Failure::Refused(refused)
                if self.correct(refused, &session, region.as_deref(), &mut corrected));
            if !again {
                return Err(Failed::Failure(failure));
            }
        }
    }

    /// Puts right what the refusal of a request of `session` that was `sent` to a region shows to be wrong; false when
    /// there is nothing. Of several requests under way each is refused, and each goes again.
    fn correct(
        &self,
        refused: &Refused,
        session: &Arc<Session>,
        sent: Option<&String>,
        corrected: &mut Corrected,
    ) -> bool {
        if refused.is_expired() && !corrected.credentials {
            corrected.credentials = true;
            return self.service.renew(session);
        }
        if let Some(off) = refused.clock_is_off(SystemTime::now()).filter(|_| !corrected.clock) {
            // The SDK has taken over the server's time with its answer.
            corrected.clock = true;
            tracing::warn!(
                store = self.name,
                "this machine's clock is {off}: signing with the server's time"
            );
            return true;
        }
        match &refused.region {
            Some(region) if refused.is_elsewhere() && !corrected.region => {
                corrected.region = true;
                self.region.store(Some(Arc::new(region.clone())));
                sent != Some(region)
            }
            _ => false,
        }
    }

    async fn get_object(
        &self,
        key: &str,
        pinned: Option<&Pinned>,
        range: Option<String>,
    ) -> Outcome<(GetObjectOutput, Duration)> {
        let send = |client: Client| {
            let request = client.get_object().bucket(&self.bucket).key(key).set_range(range.clone());
            let request = request.set_version_id(pinned.and_then(|pinned| pinned.version.clone()));
            request.set_if_match(pinned.and_then(versions::condition)).send()
        };
        self.request(send).await
    }

    async fn whole(&self, key: &str, limit: u64) -> Result<Bytes> {
        let key = &self.key(key)?;
        let (answer, after) = self.get_object(key, None, None).await.map_err(|e| e.about(self.asked(key)))?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        if let Some(length) = length {
            check_limit(key, length, limit)?;
        }
        self.body(key, answer, after, length, limit).await
    }

    async fn range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        let end = offset.checked_add(length).filter(|end| length > 0 && i64::try_from(*end).is_ok());
        let Some(end) = end else {
            // No server could be asked for this: nothing, or what no object has.
            let info = self.info(key).await?;
            return check_range(key, info.size, offset, length).map(|_| Bytes::new());
        };
        self.span(&self.key(key)?, None, offset, end).await
    }

    /// The bytes from `offset` to before `end`, which lies behind it, of the object called `key` in the bucket.
    async fn span(&self, key: &str, pinned: Option<&Pinned>, offset: u64, end: u64) -> Result<Bytes> {
        let length = end.saturating_sub(offset);
        let range = Some(format!("bytes={offset}-{}", end.saturating_sub(1)));
        let answer = self.get_object(key, pinned, range).await;
        let (answer, after) = answer.map_err(|e| e.about(self.asked(key)))?;
        pinned.map_or(Ok(()), |pinned| versions::is_meant(pinned, answer.e_tag()))?;
        let sent = answer.content_length().and_then(|length| u64::try_from(length).ok());
        match answer.content_range().map(ContentRange::parse) {
            Some(Some(range)) if range.first == offset => {
                if let Some(total) = range.total {
                    check_range(key, total, offset, length)?;
                }
            }
            // The whole object was asked for and is sent as such.
            None if offset == 0 && sent == Some(length) => {}
            _ => {
                let says = format!("{key}: bytes {offset} to {end} were asked for, and others came");
                return Err(Error::new(Kind::Unavailable, says).worth(Again::Soon));
            }
        }
        self.body(key, answer, after, Some(length), length).await
    }

    /// Reads the body of an answer that began `after` its request: `length` bytes if that is known, else at most `limit`.
    async fn body(
        &self,
        key: &str,
        answer: GetObjectOutput,
        after: Duration,
        length: Option<u64>,
        limit: u64,
    ) -> Result<Bytes> {
        let arrival = &self.meter.answered(after);
        let parts = unfold(answer.body, |mut body| async move {
            let part = body.next().await?;
            if let Ok(part) = &part {
                arrival.came(part.len() as u64);
            }
            Some((part, body))
        });
        let body = match length {
            Some(length) => exactly(key, parts, length).await?,
            None => at_most(key, parts, limit).await?,
        };
        Ok(counted(body))
    }

    async fn info(&self, key: &str) -> Result<ObjectInfo> {
        let full = &self.key(key)?;
        let info = |size: u64| ObjectInfo { key: key.to_owned(), size };
        let send = |client: Client| client.head_object().bucket(&self.bucket).key(full).send();
        let failed = match self.request(send).await {
            Ok((answer, _)) => {
                let size = answer.content_length().and_then(|length| u64::try_from(length).ok());
                return size.map(info).ok_or_else(|| garbled(full, "no length"));
            }
            Err(failed) => failed,
        };
        if failed.tells_why() {
            return Err(failed.about(self.asked(full)));
        }
        // An answer to HEAD has no room for the reason: it may be the object that is missing, or the bucket.
        let (answer, _) = self
            .get_object(full, None, Some("bytes=0-0".to_owned()))
            .await
            .map_err(|e| e.about(self.asked(full)))?;
        let total = answer.content_range().and_then(ContentRange::parse).and_then(|range| range.total);
        total.map(info).ok_or_else(|| garbled(full, "no length"))
    }
}

/// What became of a request.
type Outcome<T> = std::result::Result<T, Failed>;

/// Why a request came to nothing.
enum Failed {
    /// Before it was sent.
    Error(Error),
    /// After that.
    Failure(Failure),
}

impl Failed {
    fn about(self, asked: Asked<'_>) -> Error {
        match self {
            Failed::Error(error) => error,
            Failed::Failure(failure) => failure.error(asked),
        }
    }

    fn tells_why(&self) -> bool {
        !matches!(self, Failed::Failure(Failure::Refused(refused)) if !refused.tells_why())
    }
}

fn garbled(key: &str, what: impl Display) -> Error {
    Error::new(Kind::Unavailable, format!("{key}: the answer makes no sense: {what}")).worth(Again::Soon)
}

/// `bytes FIRST-LAST/TOTAL`.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    /// The size of the object, if the server knows.
    total: Option<u64>,
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, _) = range.split_once('-')?;
        Some(ContentRange { first: first.trim().parse().ok()?, total: total.trim().parse().ok() })
    }
}

impl ObjectStore for S3 {
    fn name(&self) -> &str {
        &self.name
    }

    fn pace(&self) -> Pace {
        self.meter.pace()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        metrics::STORE_LISTS.add(1);
        async move {
            check_prefix(prefix)?;
            listing::below(self, prefix).await
        }
        .boxed()
    }

    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        metrics::STORE_LISTS.add(1);
        async move {
            check_prefix(prefix)?;
            listing::level(self, prefix).await
        }
        .boxed()
    }

    fn newest<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Option<SystemTime>>> {
        metrics::STORE_LISTS.add(1);
        async move {
            check_prefix(prefix)?;
            listing::newest(self, prefix).await
        }
        .boxed()
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.info(key).boxed()
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.whole(key, limit).boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.range(key, offset, length).boxed()
    }
}
