//! Listings: page after page, in the second version of the request or, where a server does not know it, the first.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CommonPrefix, EncodingType, Object};

use super::bounded::Bounded;
use super::failure::Failure;
use super::text::decoded;
use super::{Failed, Outcome, S3, garbled};
use crate::error::Result;
use crate::store::key::{check_key, check_prefix};
use crate::store::{Level, ObjectInfo};

/// What is wrong with a listing that would never end.
pub(super) const ENDLESS: &str = "the listing does not say how it goes on";

/// What is asked for.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    /// The prefix in the bucket.
    below: &'a str,
    /// A slash, for one level only.
    delimiter: Option<&'a str>,
}

/// One page.
struct Page {
    objects: Vec<Object>,
    deeper: Vec<CommonPrefix>,
    /// Keys are spelled as in URLs.
    encoded: bool,
    /// There is more.
    truncated: bool,
    /// Where the next page begins.
    next: Option<Next>,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Next {
    /// What the second version calls it.
    Token(String),
    /// Behind this key: the first version.
    Marker(String),
}

/// Every object below `prefix` of the store.
pub(super) async fn below(store: &S3, prefix: &str) -> Result<Vec<ObjectInfo>> {
    let below = format!("{}{prefix}", store.prefix);
    let mut found = Vec::new();
    pages(store, Wanted { below: &below, delimiter: None }, |page| {
        for object in &page.objects {
            found.extend(info(store, &below, object, page.encoded)?);
        }
        Ok(())
    })
    .await?;
    each_once(&below, &found)?;
    Ok(found)
}

/// When the newest object below `prefix` of the store was written.
pub(super) async fn newest(store: &S3, prefix: &str) -> Result<Option<SystemTime>> {
    let below = format!("{}{prefix}", store.prefix);
    let mut newest = None;
    pages(store, Wanted { below: &below, delimiter: None }, |page| {
        let times =
            page.objects.iter().filter_map(|object| u64::try_from(object.last_modified()?.secs()).ok());
        newest = newest.max(times.max());
        Ok(())
    })
    .await?;
    Ok(newest.and_then(|secs| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(secs))))
}

/// What lies directly below `prefix` of the store; of all buckets, those.
pub(super) async fn level(store: &S3, prefix: &str) -> Result<Level> {
    if store.bucket.is_empty() {
        return buckets(store, prefix).await;
    }
    let below = format!("{}{prefix}", store.prefix);
    let mut level = Level::default();
    let mut deeper = BTreeSet::new();
    pages(store, Wanted { below: &below, delimiter: Some("/") }, |page| {
        for object in &page.objects {
            level.objects.extend(info(store, &below, object, page.encoded)?);
        }
        let prefixes = page.deeper.iter().filter_map(CommonPrefix::prefix);
        deeper.extend(prefixes.filter_map(|spelled| key(store, &below, spelled, page.encoded)));
        Ok(())
    })
    .await?;
    each_once(&below, &level.objects)?;
    level.below = deeper.into_iter().filter(|prefix| check_prefix(prefix).is_ok()).collect();
    Ok(level)
}

async fn buckets(store: &S3, prefix: &str) -> Result<Level> {
    let mut level = Level::default();
    let mut token = None;
    let mut seen = HashSet::new();
    while prefix.is_empty() {
        let send = |client: Client| {
            client
                .list_buckets()
                .set_continuation_token(token.clone())
                .customize()
                .interceptor(Bounded)
                .send()
        };
        let asked = store.asked("the list of buckets (s3:ListAllMyBuckets)");
        let (answer, _) = store.request(send).await.map_err(|failed| failed.about(asked))?;
        let names = answer.buckets().iter().filter_map(|bucket| bucket.name());
        level.below.extend(names.map(|name| format!("{name}/")));
        token = answer.continuation_token().map(str::to_owned);
        match &token {
            Some(token) if !seen.insert(token.clone()) => {
                return Err(garbled("the list of buckets", ENDLESS));
            }
            Some(_) => {}
            None => break,
        }
    }
    Ok(level)
}

/// The key in the store; none of what is not `below`.
fn key(store: &S3, below: &str, spelled: &str, encoded: bool) -> Option<String> {
    let key = if encoded { decoded(spelled)? } else { spelled.to_owned() };
    key.strip_prefix(store.prefix.as_str()).filter(|_| key.starts_with(below)).map(str::to_owned)
}

/// What a page says of an object; none of what is no key here: a directory's own entry, or a name with empty parts.
/// Errors: an object without a name or a size, which is not left out as if it were not there: the SDK's parser gives what
/// it understood of an answer that was damaged.
fn info(store: &S3, below: &str, object: &Object, encoded: bool) -> Result<Option<ObjectInfo>> {
    let spelled =
        object.key().ok_or_else(|| garbled(below, "the listing does not say what an object is called"))?;
    let key = key(store, below, spelled, encoded);
    let Some(key) = key.filter(|key| check_key(key).is_ok()) else { return Ok(None) };
    match object.size().and_then(|size| u64::try_from(size).ok()) {
        Some(size) => Ok(Some(ObjectInfo { key, size })),
        None => Err(garbled(&key, "the listing does not say how long it is")),
    }
}

/// Checks that no object came twice: who repeats a page mostly leaves out another one for it.
fn each_once(below: &str, objects: &[ObjectInfo]) -> Result<()> {
    let mut keys: Vec<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    // Nearly every server lists them in order, which takes no time here.
    keys.sort_unstable();
    match keys.iter().zip(keys.iter().skip(1)).find(|(one, next)| one == next) {
        Some((key, _)) => Err(garbled(below, format!("{key:?} came twice"))),
        None => Ok(()),
    }
}

/// Shows every page of a listing to `take`.
async fn pages(store: &S3, wanted: Wanted<'_>, mut take: impl FnMut(&Page) -> Result<()>) -> Result<()> {
    let mut next = None;
    let mut seen = HashSet::new();
    loop {
        let page = page(store, wanted, next).await?;
        take(&page)?;
        if !page.truncated {
            return Ok(());
        }
        next = page.next;
        match &next {
            Some(next) if seen.insert(next.clone()) => {}
            _ => return Err(garbled(wanted.below, ENDLESS)),
        }
    }
}

async fn page(store: &S3, wanted: Wanted<'_>, next: Option<Next>) -> Result<Page> {
    let failed = |failed: Failed| failed.about(store.asked(what(wanted.below)));
    if store.service.lists_v1() || matches!(next, Some(Next::Marker(_))) {
        return page_v1(store, wanted, next).await.map_err(failed);
    }
    match page_v2(store, wanted, &next).await {
        Err(Failed::Failure(Failure::Refused(refused))) if next.is_none() && refused.is_unknown_request() => {
            store.service.list_v1_from_now_on();
            page_v1(store, wanted, None).await.map_err(failed)
        }
        page => page.map_err(failed),
    }
}

/// What is listed, for messages.
pub(super) fn what(prefix: &str) -> &str {
    if prefix.is_empty() { "the bucket" } else { prefix }
}

async fn page_v2(store: &S3, wanted: Wanted<'_>, next: &Option<Next>) -> Outcome<Page> {
    let token = match next {
        Some(Next::Token(token)) => Some(token),
        _ => None,
    };
    let send = |client: Client| {
        let request = client.list_objects_v2().bucket(&store.bucket).prefix(wanted.below);
        let request = request.set_delimiter(wanted.delimiter.map(str::to_owned));
        let request = request.encoding_type(EncodingType::Url).set_continuation_token(token.cloned());
        request.customize().interceptor(Bounded).send()
    };
    let (answer, _) = store.request(send).await?;
    let encoded = answer.encoding_type() == Some(&EncodingType::Url);
    is_of(wanted.below, answer.prefix(), encoded).map_err(Failed::Error)?;
    let truncated = answer.is_truncated().unwrap_or(answer.next_continuation_token().is_some());
    let token = answer.next_continuation_token().map(|token| Next::Token(token.to_owned()));
    let objects = answer.contents.unwrap_or_default();
    let deeper = answer.common_prefixes.unwrap_or_default();
    let came = objects.len().saturating_add(deeper.len());
    let promised = answer.key_count.and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
    if came < promised {
        let says = format!("{came} keys came instead of {promised}");
        return Err(Failed::Error(garbled(wanted.below, says)));
    }
    // A server that knows the first version only may take no notice of the number.
    let next = token.or_else(|| marker(&objects, &deeper, encoded));
    Ok(Page { objects, deeper, encoded, truncated, next })
}

async fn page_v1(store: &S3, wanted: Wanted<'_>, next: Option<Next>) -> Outcome<Page> {
    let behind = match next {
        Some(Next::Marker(key)) => Some(key),
        _ => None,
    };
    let send = |client: Client| {
        let request = client.list_objects().bucket(&store.bucket).prefix(wanted.below);
        let request = request.set_delimiter(wanted.delimiter.map(str::to_owned));
        let request = request.encoding_type(EncodingType::Url).set_marker(behind.clone());
        request.customize().interceptor(Bounded).send()
    };
    let (answer, _) = store.request(send).await?;
    let encoded = answer.encoding_type() == Some(&EncodingType::Url);
    is_of(wanted.below, answer.prefix(), encoded).map_err(Failed::Error)?;
    let truncated = answer.is_truncated() == Some(true);
    let objects = answer.contents.unwrap_or_default();
    let deeper = answer.common_prefixes.unwrap_or_default();
    let next = marker(&objects, &deeper, encoded);
    Ok(Page { objects, deeper, encoded, truncated, next })
}

/// Checks that a page is of the prefix that was asked for, as far as it says: one that was mixed up with another would
/// look empty.
pub(super) fn is_of(below: &str, prefix: Option<&str>, encoded: bool) -> Result<()> {
    let told = prefix.and_then(|spelled| if encoded { decoded(spelled) } else { Some(spelled.to_owned()) });
    match told {
        Some(told) if told != below => {
            let says = format!("a listing of {told:?} came");
            Err(garbled(below, says))
        }
        _ => Ok(()),
    }
}

/// Behind the last key or prefix of a page.
fn marker(objects: &[Object], deeper: &[CommonPrefix], encoded: bool) -> Option<Next> {
    let text = |spelled: &str| if encoded { decoded(spelled) } else { Some(spelled.to_owned()) };
    let object = objects.last().and_then(Object::key).and_then(text);
    let prefix = deeper.last().and_then(CommonPrefix::prefix).and_then(text);
    object.max(prefix).map(Next::Marker)
}
