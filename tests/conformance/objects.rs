//! Buckets of a real S3 server and of one in this process as sources: what clients put there, and what that was before.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use backupfs::cache::Budget;
use backupfs::error::Kind;
use backupfs::source::chunked::Shared;
use backupfs::source::objects::{self, History, Metadata, Spec};
use backupfs::store::bucket::{Bucket, Extent, Mark, Pinned, Version};
use backupfs::store::s3::{S3, Service};
use backupfs::tree::{Content, FileType, Node, Source, Time};
use jiff::tz::TimeZone;
use tokio::sync::OnceCell;

use crate::harness::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use crate::harness::walk::walk;
use crate::s3::options;
use crate::s3s::S3s;

/// Runs each of these on both servers.
macro_rules! on_each_server {
    ($($check:ident),* $(,)?) => {
        on_each_server! { @on real; $($check),* }
        on_each_server! { @on in_process; $($check),* }
    };
    (@on $server:ident; $($check:ident),*) => {
        mod $server {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    let Some(endpoint) = super::$server().await else { return };
                    super::$check(endpoint).await;
                }
            )*
        }
    };
}

on_each_server! {
    what_clients_put_is_shown_with_what_they_said_of_it,
    a_versioned_bucket_shows_what_was_deleted_and_replaced,
    an_object_that_is_replaced_while_it_is_read_is_stale,
    a_listing_goes_on_behind_any_key_and_says_what_is_not_there,
}

/// Who puts objects on a server.
pub fn client(endpoint: &str) -> Client {
    let config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
        .force_path_style(true);
    Client::from_conf(config.build())
}

async fn put(client: &Client, bucket: &str, key: &str, bytes: impl AsRef<[u8]>, labels: &[(&str, &str)]) {
    let body = ByteStream::from(bytes.as_ref().to_vec());
    let mut request = client.put_object().bucket(bucket).key(key).body(body);
    for (name, value) in labels {
        request = request.metadata(*name, *value);
    }
    request.send().await.unwrap();
}

/// Objects as a few writers leave them.
async fn fill(client: &Client, bucket: &str) {
    let mtime = ("mtime", "1600000000.123456789");
    for n in 0..30 {
        put(client, bucket, &format!("dir-{}/file {n}", n % 3), format!("content {n}"), &[mtime]).await;
    }
    put(client, bucket, "a-b", "beside a directory", &[mtime, ("mode", "33152"), ("uid", "7")]).await;
    put(client, bucket, "a/b", "in it", &[]).await;
    put(client, bucket, "link", "dir-0/file 0", &[mtime, ("mode", "41471")]).await;
    put(client, bucket, "größe%20 +", vec![5; 3 << 20], &[mtime]).await;
}

async fn versioned(client: &Client, bucket: &str) {
    client.create_bucket().bucket(bucket).send().await.unwrap();
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(bucket).versioning_configuration(on).send().await.unwrap();
}

pub fn spec(endpoint: &str, bucket: &str) -> Spec {
    let service = Arc::new(Service::new(options(endpoint)).unwrap());
    let store = S3::new(service, format!("s3:{bucket}"), bucket, "");
    Spec {
        name: format!("objects:{bucket}"),
        identity: format!("test/{bucket}"),
        bucket: Arc::new(store),
        host: bucket.to_owned(),
        path: "/".into(),
        drawer: None,
        history: None,
        zone: TimeZone::UTC,
        metadata: Metadata::Auto,
    }
}

async fn open(spec: Spec) -> Arc<dyn Source> {
    objects::open(spec, Shared::new(Budget::of(64 << 20))).await.unwrap()
}

/// Makes a bucket of each kind.
async fn furnish(endpoint: &str) {
    let client = client(endpoint);
    client.create_bucket().bucket("plain").send().await.unwrap();
    fill(&client, "plain").await;
    versioned(&client, "versioned").await;
    fill(&client, "versioned").await;
    put(&client, "versioned", "a-b", "changed", &[]).await;
    client.delete_object().bucket("versioned").key("dir-0/file 0").send().await.unwrap();
}

/// The URL of a real server with a bucket of each kind; none where its program is missing.
async fn real() -> Option<&'static str> {
    static SERVER: OnceCell<Option<(String, S3Server)>> = OnceCell::const_new();
    let server = SERVER.get_or_init(|| async {
        let server = S3Server::start()?;
        furnish(&server.endpoint()).await;
        Some((server.endpoint(), server))
    });
    server.await.as_ref().map(|(endpoint, _)| endpoint.as_str())
}

/// The same of one in this process, which lists a few entries at a time.
async fn in_process() -> Option<&'static str> {
    static SERVER: OnceCell<(String, S3s)> = OnceCell::const_new();
    let server = SERVER.get_or_init(|| async {
        let server = S3s::start();
        server.set_page(7);
        furnish(&server.endpoint()).await;
        (server.endpoint(), server)
    });
    Some(&server.await.0)
}

/// A bucket that keeps versions.
pub async fn versioned_bucket() -> Option<Arc<dyn Source>> {
    Some(with_changes(real().await?).await)
}

/// The same in this process.
pub async fn versioned_bucket_in_process() -> Option<Arc<dyn Source>> {
    Some(with_changes(in_process().await?).await)
}

async fn with_changes(endpoint: &str) -> Arc<dyn Source> {
    open(Spec { history: Some(History::Changes), ..spec(endpoint, "versioned") }).await
}

fn now() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time { secs: i64::try_from(now.as_secs()).unwrap(), nanos: now.subsec_nanos() }
}

async fn root(source: &Arc<dyn Source>, at: usize) -> Node {
    let id = source.snapshots()[at].id.clone();
    source.open(&id, 0).resolve().await.unwrap().node
}

async fn what_clients_put_is_shown_with_what_they_said_of_it(endpoint: &str) {
    let source = open(spec(endpoint, "plain")).await;
    let walked = walk(root(&source, 0).await).await;
    assert_eq!(walked.len(), 1 + 4 + 30 + 4);
    let found = |path: &str| &walked[path.as_bytes()];
    assert_eq!(found("dir-1/file 4").content.as_ref().unwrap(), "content 4");
    assert_eq!(found("dir-1/file 4").meta.mtime, Time { secs: 1_600_000_000, nanos: 123_456_789 });
    assert_eq!((found("a-b").meta.perm, found("a-b").meta.uid), (0o600, 7));
    assert_eq!(found("link").meta.kind, FileType::Symlink);
    assert_eq!(found("link").content.as_ref().unwrap(), "dir-0/file 0");
    assert_eq!(found("größe%20 +").meta.size, 3 << 20);
    assert!(
        now().secs - found("a/b").meta.mtime.secs < 3600,
        "without a word of its writer the time of the object"
    );
}

async fn a_versioned_bucket_shows_what_was_deleted_and_replaced(endpoint: &str) {
    let client = client(endpoint);
    versioned(&client, "history").await;
    put(&client, "history", "kept", "one", &[]).await;
    put(&client, "history", "gone", "was here", &[]).await;
    let then = now();
    // The real one tells versions by the second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    put(&client, "history", "kept", "two", &[]).await;
    client.delete_object().bucket("history").key("gone").send().await.unwrap();
    let source = open(spec(endpoint, "history")).await;
    assert!(source.snapshots().len() <= 2, "midnight may lie between");
    let then = source.at(then).unwrap();
    let before = walk(source.open(&then.id, 0).resolve().await.unwrap().node).await;
    assert_eq!(before[&b"gone"[..]].content.as_ref().unwrap(), "was here");
    assert_eq!(before[&b"kept"[..]].content.as_ref().unwrap(), "one");
    let latest = source.at(now()).unwrap();
    let after = walk(source.open(&latest.id, 0).resolve().await.unwrap().node).await;
    assert_eq!(after[&b"kept"[..]].content.as_ref().unwrap(), "two");
    assert!(!after.contains_key(&b"gone"[..]));
    let changes = open(Spec { history: Some(History::Changes), ..spec(endpoint, "history") }).await;
    assert!(changes.snapshots().iter().any(|listed| listed.id == then.id));
    let error = objects::open(
        Spec { history: Some(History::Days), ..spec(endpoint, "plain") },
        Shared::new(Budget::of(1 << 20)),
    );
    assert_eq!(error.await.err().unwrap().kind(), Kind::Usage);
}

async fn an_object_that_is_replaced_while_it_is_read_is_stale(endpoint: &str) {
    let client = client(endpoint);
    client.create_bucket().bucket("replaced").send().await.unwrap();
    put(&client, "replaced", "big", vec![1; 8 << 20], &[]).await;
    let source = open(spec(endpoint, "replaced")).await;
    let Content::Dir(dir) = root(&source, 0).await.content else { panic!() };
    let Content::File(file) = dir.lookup(b"big").resolve().await.unwrap().unwrap().content else { panic!() };
    let reader = file.open().resolve().await.unwrap();
    assert_eq!(reader.read_at(0, 4).resolve().await.unwrap(), vec![1; 4]);
    // What was read ahead is still what the object was.
    put(&client, "replaced", "big", vec![2; 8 << 20], &[]).await;
    assert_eq!(reader.read_at(6 << 20, 4).resolve().await.unwrap_err().kind(), Kind::Stale);
    client.delete_object().bucket("replaced").key("big").send().await.unwrap();
    assert_eq!(
        file.open().resolve().await.unwrap().read_at(6 << 20, 4).resolve().await.unwrap_err().kind(),
        Kind::Stale
    );
}

/// What a bucket lists, page after page.
async fn listed(bucket: &dyn Bucket, extent: Extent, mut next: Option<Mark>) -> Vec<Version> {
    let mut versions = Vec::new();
    loop {
        let page = bucket.page(extent, next.as_ref()).await.unwrap();
        versions.extend(page.versions);
        match page.next {
            Some(mark) => next = Some(mark),
            None => return versions,
        }
    }
}

async fn a_listing_goes_on_behind_any_key_and_says_what_is_not_there(endpoint: &str) {
    let bucket = spec(endpoint, "plain").bucket;
    for extent in [Extent::Latest, Extent::Versions] {
        let all = listed(&*bucket, extent, None).await;
        assert!(all.len() == 34 && all.is_sorted_by_key(|version| version.key.clone()));
        let middle = &all[all.len() / 2];
        let rest = listed(&*bucket, extent, Some(Mark { key: middle.key.clone(), version: None })).await;
        // The real one begins with the key itself when it tells versions.
        assert!(rest.iter().all(|version| version.key >= middle.key));
        let behind = |versions: &[Version]| versions.iter().filter(|found| found.key > middle.key).count();
        assert_eq!(behind(&rest), behind(&all));
    }
    let missing = Pinned { key: "no such".into(), version: None, etag: String::new() };
    assert_eq!(bucket.labels(&missing).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(bucket.read(&missing, 0, 1).await.unwrap_err().kind(), Kind::NotFound);
    assert!(!bucket.keeps_versions().await.unwrap());
    assert!(spec(endpoint, "versioned").bucket.keeps_versions().await.unwrap());
}
