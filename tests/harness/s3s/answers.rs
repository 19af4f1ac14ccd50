//! What the server answers to each request that it knows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::s3s::dto::*;
use ::s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use bytes::Bytes;
use futures_util::TryStreamExt;

use super::held::{Bucket, Entry, Held, Labels};
use super::{Fault, Shared};

/// The archive of [`Fault::Archived`].
const ARCHIVE: &str = "DEEP_ARCHIVE";

pub struct Answers(pub Arc<Shared>);

/// A page of what there is now.
struct Page {
    objects: Vec<Object>,
    below: Vec<CommonPrefix>,
    /// The name behind which the next one begins.
    next: Option<String>,
}

impl Page {
    fn entries(&self) -> Option<i32> {
        i32::try_from(self.objects.len() + self.below.len()).ok()
    }
}

/// Names as an answer spells them: as in URLs where that was asked for.
struct Spelling(bool);

impl Spelling {
    fn of(asked: Option<&EncodingType>) -> Self {
        Spelling(asked.is_some_and(|asked| asked.as_str() == EncodingType::URL))
    }

    fn name(&self, name: &str) -> String {
        let spell = |byte: u8| match byte {
            b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        if self.0 { name.bytes().map(spell).collect() } else { name.to_owned() }
    }

    fn told(&self) -> Option<EncodingType> {
        self.0.then(|| EncodingType::from_static(EncodingType::URL))
    }
}

/// A continuation token: a name in digits.
fn token(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn name_of(token: &str) -> S3Result<String> {
    let digits: Vec<char> = token.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

fn etag(of: &str) -> Option<ETag> {
    Some(ETag::Strong(of.to_owned()))
}

fn size(held: &Held) -> Option<i64> {
    held.bytes.as_ref().and_then(|bytes| i64::try_from(bytes.len()).ok())
}

/// `length` bytes of another object.
fn others(bytes: &Bytes, length: usize) -> Bytes {
    bytes.iter().copied().cycle().take(length).collect()
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

impl Answers {
    fn with<T>(&self, bucket: &str, look: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        let mut buckets = self.0.buckets.lock().unwrap();
        look(buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?)
    }

    /// The version that is asked for, and the bytes of another object. Errors: it is another by now, or not there.
    fn found(
        &self,
        bucket: &str,
        key: &str,
        id: Option<&str>,
        wanted: Option<&ETagCondition>,
    ) -> S3Result<(Held, Option<Bytes>)> {
        let (mut held, another) = self.with(bucket, |bucket| {
            let missing = if id.is_some() { S3ErrorCode::NoSuchVersion } else { S3ErrorCode::NoSuchKey };
            let held = bucket.find(key, id).ok_or(missing)?.clone();
            Ok((held, bucket.another(key)))
        })?;
        let bytes = held.bytes.as_ref().ok_or(S3ErrorCode::NoSuchKey)?;
        if self.0.meets(Fault::Replaced, key) {
            held.bytes = Some(bytes.iter().map(|byte| !byte).collect());
            held.etag = format!("{}-{}", held.etag, self.0.requests.load(Ordering::SeqCst));
            return Ok((held, another));
        }
        match wanted.and_then(ETagCondition::as_etag) {
            Some(wanted) if wanted.value() != held.etag => Err(s3_error!(PreconditionFailed)),
            _ => Ok((held, another)),
        }
    }

    /// The page of what there is now behind the name `after`.
    fn page(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<String>,
        spelling: &Spelling,
    ) -> S3Result<Page> {
        let entries = self.with(bucket, |bucket| Ok(bucket.entries(prefix, delimiter)))?;
        let most = self.0.page.load(Ordering::SeqCst);
        let begin = |after: &str| entries.partition_point(|entry| entry.name() <= after);
        let mut from = after.as_deref().map_or(0, begin);
        if after.is_some() && self.0.meets(Fault::PageMissing, prefix) {
            from = entries.len().min(from + most);
        }
        let (mut to, mut shown) = (entries.len().min(from + most), from);
        let mut next = entries[..to].last().filter(|_| to < entries.len()).map(|last| last.name().to_owned());
        if after.is_some() && self.0.meets(Fault::PageAgain, prefix) {
            (shown, to) = (0, entries.len().min(most));
        }
        if self.0.meets(Fault::PageEmpty, prefix) {
            // Another token for the same place.
            next = Some(format!("{}\0", after.unwrap_or_default()));
            to = shown;
        }
        let mut page = Page { objects: Vec::new(), below: Vec::new(), next };
        for entry in &entries[shown..to] {
            match entry {
                Entry::Below(name) => page.below.push(CommonPrefix { prefix: Some(spelling.name(name)) }),
                Entry::Object(key, held) => page.objects.push(Object {
                    key: Some(spelling.name(key)),
                    size: size(held),
                    e_tag: etag(&held.etag),
                    last_modified: Some(held.written.into()),
                    ..Default::default()
                }),
            }
        }
        Ok(page)
    }
}

/// An archive says which it is in a header.
fn archived() -> S3Error {
    let mut error =
        s3_error!(InvalidObjectState, "The operation is not valid for the object's storage class");
    error.set_headers(
        [("x-amz-storage-class".parse().unwrap(), ARCHIVE.parse().unwrap())].into_iter().collect(),
    );
    error
}

#[async_trait::async_trait]
impl S3 for Answers {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let asked = request.input;
        let (held, another) =
            self.found(&asked.bucket, &asked.key, asked.version_id.as_deref(), asked.if_match.as_ref())?;
        if self.0.meets(Fault::Archived, &asked.key) {
            return Err(archived());
        }
        let whole = held.bytes.unwrap_or_default();
        let range = asked.range.map(|range| range.check(whole.len() as u64)).transpose()?;
        let span = range.clone().map_or(0..whole.len(), |range| range.start as usize..range.end as usize);
        let mut body = whole.slice(span);
        if self.0.meets(Fault::Flipped, &asked.key) {
            body = flipped(&body);
        }
        if let Some(another) = another.filter(|_| self.0.meets(Fault::Swapped, &asked.key)) {
            body = others(&another, body.len());
        }
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(body.len()).ok(),
            content_range: range.map(|part| format!("bytes {}-{}/{}", part.start, part.end - 1, whole.len())),
            body: Some(StreamingBlob::from(Body::from(body))),
            e_tag: etag(&held.etag),
            last_modified: Some(held.written.into()),
            metadata: Some(held.labels),
            version_id: Some(held.id).filter(|id| id != "null"),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let asked = request.input;
        let (held, _) =
            self.found(&asked.bucket, &asked.key, asked.version_id.as_deref(), asked.if_match.as_ref())?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: size(&held),
            e_tag: etag(&held.etag),
            last_modified: Some(held.written.into()),
            metadata: Some(held.labels),
            version_id: Some(held.id).filter(|id| id != "null"),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let asked = request.input;
        let (prefix, spelling) =
            (asked.prefix.unwrap_or_default(), Spelling::of(asked.encoding_type.as_ref()));
        if self.0.meets(Fault::OldListings, &prefix) {
            return Err(s3_error!(NotImplemented));
        }
        let after = match &asked.continuation_token {
            Some(token) if !self.0.meets(Fault::TokenRefused, &prefix) => Some(name_of(token)?),
            Some(_) => name_of("refused").map(Some)?,
            None => asked.start_after,
        };
        let page = self.page(&asked.bucket, &prefix, asked.delimiter.as_deref(), after, &spelling)?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(asked.bucket),
            prefix: Some(spelling.name(&prefix)),
            key_count: page.entries(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_deref().map(token),
            contents: Some(page.objects),
            common_prefixes: Some(page.below),
            encoding_type: spelling.told(),
            ..Default::default()
        }))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let asked = request.input;
        let (prefix, spelling) =
            (asked.prefix.unwrap_or_default(), Spelling::of(asked.encoding_type.as_ref()));
        let delimiter = asked.delimiter.as_deref();
        let page = self.page(&asked.bucket, &prefix, delimiter, asked.marker, &spelling)?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(asked.bucket),
            prefix: Some(spelling.name(&prefix)),
            is_truncated: Some(page.next.is_some()),
            // Without a delimiter the last key is to be taken.
            next_marker: page.next.filter(|_| delimiter.is_some()).map(|next| spelling.name(&next)),
            contents: Some(page.objects),
            common_prefixes: Some(page.below),
            encoding_type: spelling.told(),
            ..Default::default()
        }))
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let asked = request.input;
        let (prefix, spelling) =
            (asked.prefix.unwrap_or_default(), Spelling::of(asked.encoding_type.as_ref()));
        let after = asked.key_marker.as_deref().map(|key| (key, asked.version_id_marker.as_deref()));
        let mut told = self.with(&asked.bucket, |bucket| Ok(bucket.versions(&prefix, after)))?;
        let most = self.0.page.load(Ordering::SeqCst);
        let is_truncated = told.len() > most;
        told.truncate(most);
        let last = told.last().filter(|_| is_truncated);
        let next = last.map(|last| (spelling.name(&last.key), last.held.id.clone())).unzip();
        let (kept, deleted): (Vec<_>, Vec<_>) = told.into_iter().partition(|told| told.held.bytes.is_some());
        let versions = kept.into_iter().map(|told| ObjectVersion {
            key: Some(spelling.name(&told.key)),
            size: size(&told.held),
            e_tag: etag(&told.held.etag),
            is_latest: Some(told.is_latest),
            last_modified: Some(told.held.written.into()),
            version_id: Some(told.held.id),
            ..Default::default()
        });
        let marks = deleted.into_iter().map(|told| DeleteMarkerEntry {
            key: Some(spelling.name(&told.key)),
            is_latest: Some(told.is_latest),
            last_modified: Some(told.held.written.into()),
            version_id: Some(told.held.id),
            ..Default::default()
        });
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(asked.bucket),
            prefix: Some(spelling.name(&prefix)),
            is_truncated: Some(is_truncated),
            next_key_marker: next.0,
            next_version_id_marker: next.1,
            versions: Some(versions.collect()),
            delete_markers: Some(marks.collect()),
            encoding_type: spelling.told(),
            ..Default::default()
        }))
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let versioned = self.with(&request.input.bucket, |bucket| Ok(bucket.versioned))?;
        let on = || BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED);
        let status = versioned.then(on);
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
    }

    async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        self.with(&request.input.bucket, |bucket| {
            bucket.versioned = true;
            Ok(S3Response::new(PutBucketVersioningOutput::default()))
        })
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.buckets.lock().unwrap().entry(request.input.bucket).or_default();
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let PutObjectInput { bucket, key, metadata, body, .. } = request.input;
        let parts: Vec<Bytes> = match body {
            Some(body) => body.try_collect().await.map_err(|error| s3_error!(IncompleteBody, "{error}"))?,
            None => Vec::new(),
        };
        let labels: Labels = metadata.unwrap_or_default();
        self.with(&bucket, |bucket| {
            bucket.put(&key, parts.concat().into(), labels);
            Ok(S3Response::new(PutObjectOutput::default()))
        })
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.with(&request.input.bucket, |bucket| {
            bucket.remove(&request.input.key);
            Ok(S3Response::new(DeleteObjectOutput::default()))
        })
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.0.buckets.lock().unwrap();
        let buckets =
            buckets.keys().map(|name| ::s3s::dto::Bucket { name: Some(name.clone()), ..Default::default() });
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets.collect()), ..Default::default() }))
    }
}
