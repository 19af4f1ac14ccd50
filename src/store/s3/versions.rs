//! A bucket's objects with their versions and metadata.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::bounded::Bounded;
use super::failure::Failure;
use super::text::decoded;
use super::{Failed, Outcome, S3, garbled, listing};
use crate::error::{Error, Kind, Result};
use crate::observe::metrics;
use crate::store::bucket::{Bucket, Extent, Labels, Mark, Pinned, Stored, Version, VersionPage};

/// Keys of one answer, as they are spelled there.
struct Spelling<'a> {
    prefix: &'a str,
    encoded: bool,
}

impl Spelling<'_> {
    fn text(&self, spelled: &str) -> Option<String> {
        if self.encoded { decoded(spelled) } else { Some(spelled.to_owned()) }
    }

    /// The key below the prefix. None for what is not below it, or no text: nobody could ask for that again.
    fn key(&self, spelled: Option<&str>) -> Result<Option<String>> {
        let spelled = spelled
            .ok_or_else(|| garbled(self.prefix, "the listing does not say what an object is called"))?;
        Ok(self.text(spelled).and_then(|key| key.strip_prefix(self.prefix).map(str::to_owned)))
    }
}

fn stored(key: &str, size: Option<i64>, etag: Option<&str>) -> Result<Stored> {
    let size = size.and_then(|size| u64::try_from(size).ok());
    let size = size.ok_or_else(|| garbled(key, "the listing does not say how long it is"))?;
    Ok(Stored { size, etag: etag.unwrap_or_default().to_owned() })
}

/// Milliseconds since 1970.
fn when(key: &str, time: Option<&DateTime>) -> Result<i64> {
    let millis = time.and_then(|time| time.to_millis().ok());
    millis.ok_or_else(|| garbled(key, "the listing does not say when it was written"))
}

/// The digits of a ULID, a version id that begins with the time at which it was given.
const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// In milliseconds: what an id tells is a time if it lies between the first server and tomorrow.
const DAY: i64 = 86_400_000;
const FIRST: i64 = 1_142_000_000_000;

/// When a version was written: what its id tells where that is a ULID, else `told`, as the listing has it. versitygw 1.8
/// tells of a version that was replaced the time when it was, and of the mark of a deletion the time of what was deleted.
fn written(id: Option<&str>, told: i64) -> i64 {
    let of_id = || {
        let id = id.filter(|id| id.len() == 26)?.as_bytes();
        let digit = |byte: &u8| i64::try_from(DIGITS.iter().position(|digit| digit == byte)?).ok();
        let (time, rest) = id.split_at_checked(10)?;
        let time =
            time.iter().try_fold(0i64, |time, byte| time.checked_mul(32)?.checked_add(digit(byte)?))?;
        rest.iter().all(|byte| digit(byte).is_some()).then_some(time)
    };
    // The mark of a deletion may be much younger than what it deletes.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let latest = i64::try_from(now).unwrap_or(i64::MAX).max(told).saturating_add(DAY);
    of_id().filter(|time| (FIRST..latest).contains(time)).unwrap_or(told)
}

impl S3 {
    async fn latest(&self, after: Option<&Mark>) -> Result<VersionPage> {
        let failed = |failed: Failed| failed.about(self.asked(listing::what(&self.prefix)));
        let behind = after.map(|mark| format!("{}{}", self.prefix, mark.key));
        if self.service.lists_v1() {
            return self.latest_v1(behind).await.map_err(failed);
        }
        match self.latest_v2(&behind).await {
            Err(Failed::Failure(Failure::Refused(refused)))
                if after.is_none() && refused.is_unknown_request() =>
            {
                self.service.list_v1_from_now_on();
                self.latest_v1(behind).await.map_err(failed)
            }
            page => page.map_err(failed),
        }
    }

    async fn latest_v2(&self, behind: &Option<String>) -> Outcome<VersionPage> {
        let send = |client: Client| {
            let request = client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
            let request = request.encoding_type(EncodingType::Url).set_start_after(behind.clone());
            request.customize().interceptor(Bounded).send()
        };
        let (answer, _) = self.request(send).await?;
        let truncated = answer.is_truncated().unwrap_or(answer.next_continuation_token().is_some());
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let promised = answer.key_count.and_then(|count| usize::try_from(count).ok());
        listing::is_of(&self.prefix, answer.prefix(), encoded).map_err(Failed::Error)?;
        let objects = answer.contents.unwrap_or_default();
        if promised.is_some_and(|promised| objects.len() < promised) {
            return Err(Failed::Error(garbled(&self.prefix, "fewer keys came than were promised")));
        }
        self.objects(&objects, encoded, truncated).map_err(Failed::Error)
    }

    async fn latest_v1(&self, behind: Option<String>) -> Outcome<VersionPage> {
        let send = |client: Client| {
            let request = client.list_objects().bucket(&self.bucket).prefix(&self.prefix);
            let request = request.encoding_type(EncodingType::Url).set_marker(behind.clone());
            request.customize().interceptor(Bounded).send()
        };
        let (answer, _) = self.request(send).await?;
        let truncated = answer.is_truncated() == Some(true);
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        listing::is_of(&self.prefix, answer.prefix(), encoded).map_err(Failed::Error)?;
        self.objects(&answer.contents.unwrap_or_default(), encoded, truncated).map_err(Failed::Error)
    }

    /// What a page of objects without versions says.
    fn objects(
        &self,
        objects: &[aws_sdk_s3::types::Object],
        encoded: bool,
        truncated: bool,
    ) -> Result<VersionPage> {
        let spelling = Spelling { prefix: &self.prefix, encoded };
        let mut page = VersionPage::default();
        for object in objects {
            let Some(key) = spelling.key(object.key())? else { continue };
            let changed = when(&key, object.last_modified())?;
            let stored = Some(stored(&key, object.size(), object.e_tag())?);
            page.versions.push(Version { key, id: None, changed, is_latest: true, stored });
        }
        if truncated {
            let last = objects.last().and_then(|object| spelling.text(object.key()?));
            page.next = Some(self.mark(last, None)?);
        }
        Ok(page)
    }

    async fn all_versions(&self, after: Option<&Mark>) -> Result<VersionPage> {
        let behind = after.map(|mark| format!("{}{}", self.prefix, mark.key));
        let version = after.and_then(|mark| mark.version.clone());
        let send = |client: Client| {
            let request = client.list_object_versions().bucket(&self.bucket).prefix(&self.prefix);
            let request = request.encoding_type(EncodingType::Url).set_key_marker(behind.clone());
            request.set_version_id_marker(version.clone()).customize().interceptor(Bounded).send()
        };
        let asked = self.asked(listing::what(&self.prefix));
        let (answer, _) = self.request(send).await.map_err(|failed| failed.about(asked))?;
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        listing::is_of(&self.prefix, answer.prefix(), encoded)?;
        let spelling = Spelling { prefix: &self.prefix, encoded };
        let mut page = VersionPage::default();
        for version in answer.versions() {
            let Some(key) = spelling.key(version.key())? else { continue };
            let changed = written(version.version_id(), when(&key, version.last_modified())?);
            let (id, is_latest) =
                (version.version_id().map(str::to_owned), version.is_latest() == Some(true));
            let stored = Some(stored(&key, version.size(), version.e_tag())?);
            page.versions.push(Version { key, id, changed, is_latest, stored });
        }
        for mark in answer.delete_markers() {
            let Some(key) = spelling.key(mark.key())? else { continue };
            let changed = written(mark.version_id(), when(&key, mark.last_modified())?);
            let (id, is_latest) = (mark.version_id().map(str::to_owned), mark.is_latest() == Some(true));
            page.versions.push(Version { key, id, changed, is_latest, stored: None });
        }
        // They come in two lists.
        page.versions.sort_by(|a, b| a.key.cmp(&b.key));
        if answer.is_truncated() == Some(true) {
            let key = answer.next_key_marker().and_then(|spelled| spelling.text(spelled));
            let version = answer.next_version_id_marker().filter(|id| !id.is_empty());
            page.next = Some(self.mark(key, version.map(str::to_owned))?);
        }
        Ok(page)
    }

    /// Where a listing goes on that is not at its end. Errors: it does not say.
    fn mark(&self, key: Option<String>, version: Option<String>) -> Result<Mark> {
        let below = key.as_deref().and_then(|key| key.strip_prefix(self.prefix.as_str()));
        let key = below.ok_or_else(|| garbled(&self.prefix, listing::ENDLESS))?.to_owned();
        Ok(Mark { key, version })
    }

    async fn head(&self, object: &Pinned) -> Outcome<(HeadObjectOutput, Duration)> {
        let key = format!("{}{}", self.prefix, object.key);
        let send = |client: Client| {
            let request = client.head_object().bucket(&self.bucket).key(&key);
            request.set_version_id(object.version.clone()).set_if_match(condition(object)).send()
        };
        self.request(send).await
    }
}

/// What `If-Match` is to say.
pub(super) fn condition(object: &Pinned) -> Option<String> {
    (!object.etag.is_empty()).then(|| object.etag.clone())
}

/// Checks that an answer is of the bytes that were asked for: not every server knows `If-Match`. Errors: `Stale`.
pub(super) fn is_meant(object: &Pinned, told: Option<&str>) -> Result<()> {
    let bare = |etag: &str| etag.trim_start_matches("W/").trim_matches('"').to_owned();
    match told {
        Some(told) if !object.etag.is_empty() && bare(told) != bare(&object.etag) => {
            let says = format!("{}: is another object than when it was listed", object.key);
            Err(Error::new(Kind::Stale, says))
        }
        _ => Ok(()),
    }
}

impl Bucket for S3 {
    fn keeps_versions(&self) -> BoxFuture<'_, Result<bool>> {
        let send = |client: Client| client.get_bucket_versioning().bucket(&self.bucket).send();
        async move {
            match self.request(send).await {
                Ok((answer, _)) => Ok(answer.status().is_some()),
                Err(Failed::Failure(Failure::Refused(refused))) if refused.is_unknown_request() => Ok(false),
                Err(failed) => {
                    Err(failed.about(self.asked("the state of its versions (s3:GetBucketVersioning)")))
                }
            }
        }
        .boxed()
    }

    fn page<'a>(&'a self, extent: Extent, after: Option<&'a Mark>) -> BoxFuture<'a, Result<VersionPage>> {
        metrics::STORE_LISTS.add(1);
        match extent {
            Extent::Latest => self.latest(after).boxed(),
            Extent::Versions => self.all_versions(after).boxed(),
        }
    }

    fn labels<'a>(&'a self, object: &'a Pinned) -> BoxFuture<'a, Result<Labels>> {
        async move {
            let (answer, _) = match self.head(object).await {
                Ok(answer) => answer,
                Err(failed) => return Err(gone(failed).about(self.asked(&object.key))),
            };
            is_meant(object, answer.e_tag())?;
            let labels = answer.metadata.unwrap_or_default();
            Ok(labels.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect())
        }
        .boxed()
    }

    fn read<'a>(&'a self, object: &'a Pinned, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        async move {
            let end = offset.checked_add(length).filter(|end| length > 0 && i64::try_from(*end).is_ok());
            let end = end.ok_or_else(|| {
                let says = format!("{}: {length} bytes from {offset}", object.key);
                Error::new(Kind::Invalid, says)
            })?;
            self.span(&format!("{}{}", self.prefix, object.key), Some(object), offset, end).await
        }
        .boxed()
    }
}

/// An answer to HEAD has no room for a reason: what a listing told of and is not there has gone since.
fn gone(failed: Failed) -> Failed {
    match failed {
        Failed::Failure(Failure::Refused(mut refused)) if refused.status == 404 && !refused.tells_why() => {
            refused.code = "NoSuchKey".to_owned();
            Failed::Failure(Failure::Refused(refused))
        }
        failed => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_other_bytes_is_stale_however_their_name_is_spelled() {
        let object = |etag: &str| Pinned { key: "k".to_owned(), version: None, etag: etag.to_owned() };
        for (listed, told) in [
            ("\"a\"", Some("\"a\"")),
            ("a", Some("\"a\"")),
            ("\"a\"", Some("W/\"a\"")),
            ("\"a\"", None),
            ("", Some("b")),
        ] {
            assert!(is_meant(&object(listed), told).is_ok(), "{listed} {told:?}");
        }
        assert_eq!(is_meant(&object("\"a\""), Some("\"b\"")).unwrap_err().kind(), Kind::Stale);
    }

    #[test]
    fn a_version_s_id_tells_when_it_was_written_where_it_can() {
        let told = 1_795_298_000_000;
        assert_eq!(written(Some("01M801H9J9B57ZT7A1TGEXZN6Y"), told), 1_795_297_945_161);
        for other in [
            None,
            Some("null"),
            Some(""),
            Some("3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"),
            Some("01M801H9J9B57ZT7A1TGEXZN6"),
            Some("01M801H9J9B57ZT7A1TGEXZN6U"),
            Some("ZZZZZZZZZZB57ZT7A1TGEXZN6Y"),
            Some("00000000001111111111111111"),
        ] {
            assert_eq!(written(other, told), told, "{other:?}");
        }
    }
}
