//! What S3 servers do besides serving objects: each odd answer as a server would give it, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use backupfs::error::{Again, Error, Kind, Result};
use backupfs::store::s3::{Addressing, Identity, Options, S3, Service};
use backupfs::store::{ObjectStore, Pace};

use crate::harness::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use crate::harness::scripted::{Answer, Request, Scripted};

/// How to reach a server of the tests.
pub fn options(endpoint: &str) -> Options {
    Options {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        addressing: Addressing::Auto,
        identity: key(SECRET_KEY),
        role: None,
        ca: None,
    }
}

/// The key of the servers of the tests, with this secret.
pub fn key(secret: &str) -> Identity {
    Identity::Key { id: ACCESS_KEY.to_owned(), secret: secret.into(), session: None }
}

/// The bucket `bucket`, reached so.
pub fn store(options: Options) -> S3 {
    S3::new(Arc::new(Service::new(options).unwrap()), "s3:test", "bucket", "")
}

/// A store at a server that answers as `handler` says.
fn scripted(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Scripted, S3) {
    let server = Scripted::start(handler);
    let store = store(options(&server.endpoint()));
    (server, store)
}

/// Kind, worth and words of an error.
pub fn seen<T>(result: Result<T>) -> (Kind, Again, String) {
    let error = result.err().expect("an error");
    (error.kind(), error.again(), error.to_string())
}

/// A whole object, or a part of it where a range is asked for.
fn object(request: &Request, bytes: &[u8]) -> Answer {
    let Some(range) = request.header("range").and_then(|range| range.strip_prefix("bytes=")) else {
        return Answer::new(200, bytes);
    };
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= bytes.len() {
        return Answer::refused(416, "InvalidRange", "");
    }
    let last = last.min(bytes.len() - 1);
    Answer::new(206, &bytes[first..=last])
        .with("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
}

/// One page of a listing.
fn page(keys: &[&str], more: &str) -> Answer {
    let objects: String =
        keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>")).collect();
    Answer::new(200, format!("<ListBucketResult><Name>bucket</Name>{objects}{more}</ListBucketResult>"))
}

/// All keys, as they are listed.
pub async fn keys(store: &S3) -> Vec<String> {
    store.list("").await.unwrap().into_iter().map(|object| object.key).collect()
}

#[tokio::test]
async fn a_server_that_takes_no_notice_of_the_version_is_listed_to_the_end() {
    let (_server, store) = scripted(|request| match request.target.contains("marker=b") {
        false => page(&["a", "b"], "<IsTruncated>true</IsTruncated>"),
        true => page(&["c"], "<IsTruncated>false</IsTruncated>"),
    });
    assert_eq!(keys(&store).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_listing_that_does_not_advance_is_an_error() {
    let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>";
    for objects in [&["a"][..], &[]] {
        let (_server, store) = scripted(move |_| page(objects, more));
        assert_eq!(seen(store.list("").await).0, Kind::Unavailable);
        let (_server, store) = scripted(move |_| page(objects, "<IsTruncated>true</IsTruncated>"));
        assert_eq!(seen(store.list("").await).0, Kind::Unavailable);
    }
}

#[tokio::test]
async fn a_listing_that_leads_in_a_circle_is_an_error() {
    let next = |token| {
        format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
    };
    let (server, store) = scripted(move |request| match request.target.contains("continuation-token=one") {
        true => page(&["b"], &next("two")),
        false => page(&["a"], &next("one")),
    });
    assert_eq!(seen(store.list("").await).0, Kind::Unavailable);
    assert_eq!(server.requests().len(), 3);
    let bucket = "<Buckets><Bucket><Name>a</Name></Bucket></Buckets>";
    let server = Scripted::start(move |_| {
        let body = format!("{bucket}<ContinuationToken>same</ContinuationToken>");
        Answer::new(200, format!("<ListAllMyBucketsResult>{body}</ListAllMyBucketsResult>"))
    });
    let service = Service::new(options(&server.endpoint())).unwrap();
    let all = S3::new(Arc::new(service), "s3:test", "", "");
    assert_eq!(seen(all.list_level("").await).0, Kind::Unavailable);
}

#[tokio::test]
async fn an_object_without_a_name_or_size_is_an_error_and_not_left_out() {
    let damaged = "<LastModified>2026-11-21T20:49:36Z</LastModigied><Key>a</Key><Size>1</Size>";
    for object in ["<Key>a</Key>", "<Key>a</Key><Size>-5</Size>", "<Size>1</Size>", damaged] {
        let contents = format!("<Contents>{object}</Contents>");
        let body = format!("<ListBucketResult><Name>bucket</Name>{contents}</ListBucketResult>");
        let (_server, store) = scripted(move |_| Answer::new(200, body.clone()));
        let (kind, again, says) = seen(store.list("").await);
        assert_eq!((kind, again), (Kind::Unavailable, Again::Soon), "{says}");
    }
}

#[tokio::test]
async fn the_listing_of_another_prefix_is_an_error_and_not_an_empty_one() {
    let encoded = "<EncodingType>url</EncodingType>";
    let (_server, store) =
        scripted(move |_| page(&["a%20b/c"], &format!("<Prefix>a%20b/</Prefix>{encoded}")));
    assert_eq!(store.list("a b/").await.unwrap().len(), 1);
    let (kind, again, says) = seen(store.list("snapshots/").await);
    assert_eq!((kind, again), (Kind::Unavailable, Again::Soon), "{says}");
}

#[tokio::test]
async fn a_listing_that_brings_less_than_it_says_is_an_error() {
    let (_server, store) = scripted(|_| page(&["a", "b"], "<KeyCount>2</KeyCount>"));
    assert_eq!(store.list("").await.unwrap().len(), 2);
    let (_server, store) = scripted(|_| page(&["a"], "<KeyCount>2</KeyCount>"));
    let (kind, again, says) = seen(store.list("").await);
    assert_eq!((kind, again), (Kind::Unavailable, Again::Soon), "{says}");
}

#[tokio::test]
async fn a_listing_without_end_is_cut_off() {
    let (_server, store) = scripted(|_| page(&["a"], &" ".repeat(9 << 20)));
    assert_eq!(seen(store.list("").await).0, Kind::Unavailable);
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_an_error_worth_another_try() {
    let (_server, store) = scripted(|_| page(&["a", "b"], "").cut_after(90));
    let (kind, again, says) = seen(store.list("").await);
    assert_eq!((kind, again), (Kind::Unavailable, Again::Soon), "{says}");
}

#[tokio::test]
async fn all_buckets_are_a_level_of_their_own() {
    let Some(server) = S3Server::start() else { return };
    for name in ["cback-anna", "cback-bert", "other"] {
        server.bucket(name);
    }
    let service = Arc::new(Service::new(options(&server.endpoint())).unwrap());
    let level = S3::new(service, "s3", "", "").list_level("").await.unwrap();
    assert_eq!(level.below, ["cback-anna/", "cback-bert/", "other/"]);
    assert!(level.objects.is_empty());
}

#[tokio::test]
async fn names_that_are_no_keys_are_left_out_of_listings() {
    let (_server, store) = scripted(|_| page(&["data/", "data//x", "/y", "../z", "good"], ""));
    assert_eq!(keys(&store).await, ["good"]);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_worth_another_try() {
    let (_server, store) = scripted(|request| object(request, &[7; 1000]).cut_after(400));
    for result in [store.get("k", 1 << 20).await, store.get_range("k", 10, 500).await] {
        let (kind, again, says) = seen(result);
        assert_eq!((kind, again), (Kind::Unavailable, Again::Soon), "{says}");
    }
}

#[tokio::test]
async fn another_range_than_asked_for_is_never_taken_for_it() {
    for wrong in ["bytes 0-9/1000", "bytes 11-20/1000", "pages 10-19/1000", ""] {
        let (_server, store) = scripted(move |_| {
            let answer = Answer::new(206, [7; 10]);
            if wrong.is_empty() { answer } else { answer.with("Content-Range", wrong) }
        });
        let (kind, again, says) = seen(store.get_range("k", 10, 10).await);
        assert_eq!((kind, again), (Kind::Unavailable, Again::Soon), "{wrong}: {says}");
    }
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_only_believed_where_it_makes_no_difference() {
    let (_server, store) = scripted(|_| Answer::new(200, [7; 1000]));
    assert_eq!(store.get_range("k", 0, 1000).await.unwrap(), [7; 1000][..]);
    assert_eq!(seen(store.get_range("k", 0, 10).await).0, Kind::Unavailable);
    assert_eq!(seen(store.get_range("k", 10, 990).await).0, Kind::Unavailable);
}

#[tokio::test]
async fn a_busy_server_says_when_to_come_back() {
    let (_server, store) = scripted(|_| Answer::refused(503, "SlowDown", "").with("Retry-After", 3));
    for result in
        [store.get("k", 9).await.map(drop), store.list("").await.map(drop), store.stat("k").await.map(drop)]
    {
        let (kind, again, says) = seen(result);
        assert_eq!((kind, again), (Kind::Unavailable, Again::Slower(Some(Duration::from_secs(3)))), "{says}");
    }
}

#[tokio::test]
async fn nothing_is_retried_here() {
    let (server, store) = scripted(|_| Answer::refused(500, "InternalError", ""));
    assert_eq!(seen(store.get("k", 9).await).1, Again::Soon);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_archived_object_says_what_to_thaw() {
    let (_server, store) =
        scripted(|_| Answer::refused(403, "InvalidObjectState", "<StorageClass>DEEP_ARCHIVE</StorageClass>"));
    let (kind, again, says) = seen(store.get_range("data/ab/abcd", 0, 10).await);
    assert_eq!((kind, again), (Kind::Unsupported, Again::Never));
    for word in ["data/ab/abcd", "DEEP_ARCHIVE", "restore-object --bucket bucket --key data/ab/abcd"] {
        assert!(says.contains(word), "{says}");
    }
}

/// A server whose bucket is in Paris: `refusal` is what it says to requests that are signed for elsewhere.
fn in_paris(refusal: impl Fn() -> Answer + Send + Sync + 'static) -> (Scripted, S3) {
    scripted(move |request| {
        match request.header("authorization").unwrap_or_default().contains("/eu-west-3/s3/") {
            true if request.method == "GET" => object(request, b"bonjour"),
            true => Answer::new(200, *b"bonjour"),
            false => refusal(),
        }
    })
}

#[tokio::test]
async fn the_region_is_learned_from_a_refusal_and_kept() {
    let redirect = || Answer::refused(301, "PermanentRedirect", "").with("x-amz-bucket-region", "eu-west-3");
    let malformed = || Answer::refused(400, "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>");
    let refusals: [fn() -> Answer; 2] = [redirect, malformed];
    for refusal in refusals {
        let (server, store) = in_paris(refusal);
        assert_eq!(store.get("k", 99).await.unwrap(), "bonjour");
        assert_eq!(store.get_range("k", 3, 4).await.unwrap(), "jour");
        assert_eq!(store.stat("k").await.unwrap().size, 7);
        assert_eq!(server.requests().len(), 4, "one request was made twice");
    }
}

#[tokio::test]
async fn requests_that_are_under_way_together_all_learn_the_region() {
    let redirect = || Answer::refused(301, "PermanentRedirect", "").with("x-amz-bucket-region", "eu-west-3");
    let (_server, store) = in_paris(redirect);
    let (a, b, c) = tokio::join!(store.get("a", 99), store.get("b", 99), store.get_range("c", 3, 4));
    assert_eq!((&*a.unwrap(), &*b.unwrap(), &*c.unwrap()), (&b"bonjour"[..], &b"bonjour"[..], &b"jour"[..]));
}

#[tokio::test]
async fn a_region_that_does_not_help_either_is_told() {
    let (server, store) =
        scripted(|_| Answer::refused(301, "PermanentRedirect", "").with("x-amz-bucket-region", "eu-west-3"));
    let (kind, _, says) = seen(store.get("k", 9).await);
    assert_eq!(kind, Kind::Unavailable);
    assert!(says.contains("eu-west-3") && says.contains("s3-region"), "{says}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_missing_object_is_told_from_a_missing_bucket_and_from_a_server_that_is_none() {
    let (_server, store) = scripted(|_| Answer::refused(404, "NoSuchKey", ""));
    assert_eq!(seen(store.stat("k").await).0, Kind::NotFound);
    assert_eq!(seen(store.get("k", 9).await).0, Kind::NotFound);
    let (_server, store) = scripted(|_| Answer::refused(404, "NoSuchBucket", ""));
    for result in
        [store.stat("k").await.map(drop), store.get("k", 9).await.map(drop), store.list("").await.map(drop)]
    {
        let (kind, again, says) = seen(result);
        assert_eq!((kind, again), (Kind::Unavailable, Again::Never));
        assert!(says.contains("no bucket bucket at http://127.0.0.1"), "{says}");
    }
    let (_server, store) = scripted(|_| Answer::new(404, "<html>nothing here</html>"));
    for result in
        [store.stat("k").await.map(drop), store.get("k", 9).await.map(drop), store.list("").await.map(drop)]
    {
        let (kind, _, says) = seen(result);
        assert_eq!(kind, Kind::Unavailable, "{says}");
        assert!(says.contains("is that an S3 server"), "{says}");
    }
    let (_server, store) = scripted(|_| Answer::new(200, "<html>welcome</html>"));
    let (kind, _, says) = seen(store.list("").await);
    assert_eq!(kind, Kind::Unavailable, "{says}");
}

#[tokio::test]
async fn requests_are_signed_unless_they_are_anonymous() {
    let signed = Scripted::start(|request| match request.header("authorization") {
        Some(_) => Answer::refused(403, "AccessDenied", ""),
        None => object(request, b"open"),
    });
    assert_eq!(seen(store(options(&signed.endpoint())).get("k", 9).await).0, Kind::Denied);
    let anonymous = Options { identity: Identity::Anonymous, ..options(&signed.endpoint()) };
    assert_eq!(store(anonymous).get("k", 9).await.unwrap(), "open");
}

#[tokio::test]
async fn the_bucket_stands_where_it_is_wanted() {
    for (addressing, target, host) in
        [(Addressing::Auto, "/bucket/k", "localhost"), (Addressing::Virtual, "/k", "bucket.localhost")]
    {
        let server = Scripted::start(|request| object(request, b"x"));
        let endpoint = server.endpoint().replace("127.0.0.1", "localhost");
        let store = store(Options { addressing, ..options(&endpoint) });
        // Whether bucket.localhost can be reached is the machine's matter.
        if store.get("k", 9).await.is_ok() {
            let request = &server.requests()[0];
            assert!(request.target.starts_with(target), "{}", request.target);
            assert!(request.header("host").unwrap().starts_with(host), "{request:?}");
        } else {
            assert_eq!(addressing, Addressing::Virtual);
        }
    }
}

#[tokio::test]
async fn the_pace_is_what_was_measured() {
    let (_server, store) = scripted(|request| {
        std::thread::sleep(Duration::from_millis(60));
        object(request, &[7; 1 << 20])
    });
    let before = store.pace();
    assert!(before.latency > Pace::LOCAL.latency && before.bandwidth > 1 << 20, "{before:?}");
    for _ in 0..4 {
        store.get("k", 1 << 30).await.unwrap();
    }
    let after = store.pace();
    assert!(after.latency >= Duration::from_millis(60), "{after:?}");
    assert_ne!(after.bandwidth, before.bandwidth);
}

#[tokio::test]
async fn what_cannot_be_reached_says_why_and_what_to_do() {
    for (endpoint, again, remedy) in [
        // The port of nobody.
        ("http://127.0.0.1:1", Again::Soon, "is the server up"),
        ("https://no-such-host.invalid", Again::Never, "is it spelled right?"),
    ] {
        let (kind, found, says) = seen(store(options(endpoint)).get("k", 9).await);
        assert_eq!(kind, Kind::Unavailable, "{says}");
        assert!(says.contains(remedy) && says.contains(endpoint), "{says}");
        // Without a network, names are looked up in vain.
        assert!(found == again || found == Again::Soon, "{found:?}: {says}");
    }
    let plain = Scripted::start(|request| object(request, b"x"));
    let endpoint = plain.endpoint().replace("http:", "https:");
    let (kind, again, says) = seen(store(options(&endpoint)).get("k", 9).await);
    assert_eq!((kind, again), (Kind::Unavailable, Again::Never), "{says}");
    assert!(says.contains("no TLS is spoken there"), "{says}");
}

/// What a real server says to what is wrong.
#[tokio::test]
async fn a_real_server_s_refusals_are_understood() {
    let Some(server) = S3Server::shared() else { return };
    let bucket = server.fresh_bucket();
    std::fs::write(server.root().join(&bucket).join("k"), "x").unwrap();
    let at =
        |options: Options, bucket: &str| S3::new(Arc::new(Service::new(options).unwrap()), "s3", bucket, "");
    let right = || options(&server.endpoint());

    assert_eq!(at(right(), &bucket).get("k", 9).await.unwrap(), "x");
    let elsewhere = Options { region: Some("eu-west-1".to_owned()), ..right() };
    assert_eq!(at(elsewhere, &bucket).get("k", 9).await.unwrap(), "x", "the region is learned");

    let wrong_secret = Options { identity: key("not the secret"), ..right() };
    let unknown = Identity::Key { id: "nobody".to_owned(), secret: "x".into(), session: None };
    let anonymous = Options { identity: Identity::Anonymous, ..right() };
    for (options, remedy) in [
        (wrong_secret, "AWS_SECRET_ACCESS_KEY"),
        (Options { identity: unknown, ..right() }, "AWS_ACCESS_KEY_ID"),
        (anonymous, "give credentials"),
    ] {
        for result in [
            at(options.clone(), &bucket).get("k", 9).await.map(drop),
            at(options.clone(), &bucket).list("").await.map(drop),
            at(options.clone(), &bucket).stat("k").await.map(drop),
        ] {
            let (kind, again, says) = seen(result);
            assert_eq!((kind, again), (Kind::Denied, Again::Never), "{says}");
            assert!(says.contains(remedy), "{remedy}: {says}");
        }
    }

    let error = at(right(), "no-such-bucket").list("").await.unwrap_err();
    assert!(error.to_string().contains("there is no bucket no-such-bucket"), "{error}");
    let error: Error = at(right(), "no-such-bucket").stat("k").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

/// The SDK as somebody, for what a read-only store cannot do.
fn writer(server: &S3Server, access: &str, secret: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version_latest()
        .endpoint_url(server.endpoint())
        .region(aws_sdk_s3::config::Region::new("us-east-1"))
        .credentials_provider(aws_sdk_s3::config::Credentials::new(access, secret, None, None, "test"))
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

/// The policy that docs/s3.md gives, for a user and a bucket.
fn documented_policy(user: &str, bucket: &str) -> String {
    let page = include_str!("../../docs/s3.md");
    let policy = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let of_user = format!(r#""Effect": "Allow", "Principal": {{ "AWS": "{user}" }}"#);
    policy.replace("BUCKET", bucket).replace(r#""Effect": "Allow""#, &of_user)
}

#[tokio::test]
async fn the_documented_policy_lets_us_read_and_nobody_write() {
    let Some(server) = S3Server::start() else { return };
    std::fs::write(server.bucket("bucket").join("config"), "x").unwrap();
    server.add_user("reader", "readers-secret");
    let identity = Identity::Key { id: "reader".to_owned(), secret: "readers-secret".into(), session: None };
    let reader = store(Options { identity, ..options(&server.endpoint()) });
    let (kind, _, says) = seen(reader.list("").await);
    assert_eq!(kind, Kind::Denied, "{says}");
    assert!(says.contains("s3:ListBucket on bucket bucket"), "{says}");

    let root = writer(&server, ACCESS_KEY, SECRET_KEY);
    root.put_bucket_policy()
        .bucket("bucket")
        .policy(documented_policy("reader", "bucket"))
        .send()
        .await
        .unwrap();
    assert_eq!(keys(&reader).await, ["config"]);
    assert_eq!(reader.get("config", 9).await.unwrap(), "x");
    assert_eq!(reader.get_range("config", 0, 1).await.unwrap(), "x");
    assert_eq!(reader.stat("config").await.unwrap().size, 1);
    assert_eq!(seen(reader.get("missing", 9).await).0, Kind::NotFound);

    let reader = writer(&server, "reader", "readers-secret");
    let put = reader.put_object().bucket("bucket").key("new").send().await.unwrap_err();
    let replace = reader.put_object().bucket("bucket").key("config").send().await.unwrap_err();
    let delete = reader.delete_object().bucket("bucket").key("config").send().await.unwrap_err();
    for status in
        [put.raw_response(), replace.raw_response(), delete.raw_response()].map(|r| r.unwrap().status())
    {
        assert_eq!(status.as_u16(), 403);
    }
    assert_eq!(std::fs::read(server.root().join("bucket/config")).unwrap(), b"x");
}
