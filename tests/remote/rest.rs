//! What REST servers answer that no sound one does, and what only old ones do.

use std::collections::BTreeMap;
use std::time::Duration;

use backupfs::error::{Again, Kind};
use backupfs::store::ObjectStore;
use backupfs::store::rest::{Rest, Server, Settings, Trust};

use crate::harness::verbatim::{Verbatim, answer, sound};
use crate::seen;

const V2: &str = "Content-Type: application/vnd.x.restic.rest.v2";
const MUCH: u64 = 1 << 30;

fn store(address: &str) -> Rest {
    Rest::new(Settings {
        server: Server::Web { authority: address.into(), tls: false },
        path: "/some/repo/".into(),
        login: Some(("me".into(), b"hunter2".as_slice().into())),
        trust: Trust::default(),
        name: "rest:test".into(),
    })
    .unwrap()
}

/// A server that answers everything in one way.
fn always(answer: Vec<u8>) -> (Verbatim, Rest) {
    let server = Verbatim::serve(move |_| answer.clone());
    let store = store(&server.address);
    (server, store)
}

#[tokio::test]
async fn a_listing_without_sizes_is_completed() {
    let server = Verbatim::serve(|request| match request {
        "GET /some/repo/keys/" => sound("200 OK", &[], r#"["aa","b b","gone","../config"]"#),
        "HEAD /some/repo/keys/aa" => answer("200 OK", &["Content-Length: 7"], ""),
        "HEAD /some/repo/keys/b%20b" => answer("200 OK", &["Content-Length: 0"], ""),
        _ => sound("404 Not Found", &[], "no"),
    });
    let listed = store(&server.address).list("keys/").await.unwrap();
    let listed: BTreeMap<_, _> = listed.into_iter().map(|object| (object.key, object.size)).collect();
    assert_eq!(listed, BTreeMap::from([("keys/aa".into(), 7), ("keys/b b".into(), 0)]));
    let heads = server.heads();
    assert_eq!(heads.len(), 4, "nothing is asked about a name that is none: {heads:?}");
    assert!(heads.iter().all(|head| head.to_lowercase().contains("authorization: basic bwu6ahvudgvymg==")));
    assert!(heads[0].to_lowercase().contains("accept: application/vnd.x.restic.rest.v2"), "{}", heads[0]);
}

#[tokio::test]
async fn names_in_a_listing_lead_nowhere_else() {
    let body = r#"[{"name":"../config","size":1},{"name":"..","size":1},{"name":"a/b","size":1},{"name":"","size":1},
        {"name":"ab","size":5}]"#;
    let (_server, store) = always(sound("200 OK", &[V2], body));
    for (prefix, key) in [("index/", "index/ab"), ("data/", "data/ab/ab"), ("data/ab/", "data/ab/ab")] {
        let listed = store.list(prefix).await.unwrap();
        assert_eq!(listed.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), [key]);
    }
    assert!(store.list("data/ac/").await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_listing_is_an_error() {
    for body in ["<html>Please log in</html>", r#"{"error":"x"}"#, "", r#"["#] {
        let (_server, store) = always(sound("200 OK", &[], body));
        assert_eq!(seen(store.list("snapshots/").await).0, Kind::Unavailable, "{body}");
    }
}

#[tokio::test]
async fn a_missing_listing_is_empty_unless_rclone_says_so() {
    let (_server, store) = always(sound("404 Not Found", &[], "no"));
    assert!(store.list("snapshots/").await.unwrap().is_empty());
    assert_eq!(seen(store.stat("config").await), (Kind::NotFound, Again::Never));
    let (_server, store) = always(sound("404 Not Found", &["Server: rclone/v1.60.1"], "no"));
    assert_eq!(seen(store.list("snapshots/").await), (Kind::Unavailable, Again::Soon));
}

#[tokio::test]
async fn what_rclone_cannot_open_is_missing_only_if_it_is_not_listed() {
    let rclone = "Server: rclone/v1.60.1";
    let server = Verbatim::serve(move |request| match request {
        "GET /some/repo/snapshots/" => sound("200 OK", &[V2, rclone], r#"[{"name":"aa","size":5}]"#),
        "GET /some/repo/keys/" => sound("200 OK", &[V2, rclone], r#"[{"name":"bb","size":5}]"#),
        _ => sound("404 Not Found", &[rclone], "Not Found"),
    });
    let there = store(&server.address);
    for (key, expected) in [
        ("snapshots/aa", (Kind::Unavailable, Again::Soon)),
        ("snapshots/bb", (Kind::NotFound, Again::Never)),
        ("config", (Kind::Unavailable, Again::Soon)),
        ("index/aa", (Kind::Unavailable, Again::Soon)),
    ] {
        assert_eq!(seen(there.get(key, MUCH).await), expected, "{key}");
        assert_eq!(seen(there.stat(key).await), expected, "{key}");
        assert_eq!(seen(there.get_range(key, 5, 5).await), expected, "{key}");
    }
    let lists = server.heads().iter().filter(|head| head.starts_with("GET /some/repo/snapshots/ ")).count();
    assert_eq!(lists, 1, "one listing for many that are missing");
    let nothing = Verbatim::serve(move |request| match request {
        "GET /some/repo/keys/" => sound("200 OK", &[V2, rclone], "[]"),
        _ => sound("404 Not Found", &[rclone], "Not Found"),
    });
    let nowhere = store(&nothing.address);
    assert_eq!(seen(nowhere.get("config", MUCH).await), (Kind::NotFound, Again::Never));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (status, header, expected) in [
        ("401 Unauthorized", "X: y", (Kind::Denied, Again::Never)),
        ("403 Forbidden", "X: y", (Kind::Denied, Again::Never)),
        ("301 Moved Permanently", "Location: https://u:hunter2@other/", (Kind::Unsupported, Again::Never)),
        ("429 Too Many Requests", "X: y", (Kind::Unavailable, Again::Slower(None))),
        ("500 Internal Server Error", "X: y", (Kind::Unavailable, Again::Soon)),
        (
            "503 Service Unavailable",
            "Retry-After: 7",
            (Kind::Unavailable, Again::Slower(Some(Duration::from_secs(7)))),
        ),
    ] {
        let (_server, store) = always(sound(status, &[header], "no"));
        assert_eq!(seen(store.list("snapshots/").await), expected, "{status}");
        assert_eq!(seen(store.get("config", MUCH).await), expected, "{status}");
        assert_eq!(seen(store.get_range("data/aa/aab", 0, 5).await), expected, "{status}");
        let told = store.get("config", MUCH).await.unwrap_err().to_string();
        assert!(told.contains("config") && !told.contains("hunter2"), "{told}");
    }
    let (_server, store) = always(sound("302 Found", &["Location: https://elsewhere/repo/?token=x"], ""));
    let told = store.stat("config").await.unwrap_err().to_string();
    assert!(told.ends_with("sends us to https://elsewhere/repo/; give that address"), "{told}");
}

#[tokio::test]
async fn a_body_that_is_cut_is_no_object() {
    let cut = || {
        [
            answer("200 OK", &["Content-Length: 10"], "01234"),
            answer("200 OK", &["Transfer-Encoding: chunked"], "5\r\n01234\r\n"),
            answer("200 OK", &["Transfer-Encoding: chunked"], "9\r\n01234"),
        ]
    };
    for answer in cut() {
        let (_server, store) = always(answer);
        assert_eq!(seen(store.get("config", MUCH).await), (Kind::Unavailable, Again::Soon));
        assert_eq!(seen(store.list("keys/").await), (Kind::Unavailable, Again::Soon));
    }
    let part =
        answer("206 Partial Content", &["Content-Length: 10", "Content-Range: bytes 5-14/99"], "01234");
    let (_server, store) = always(part);
    assert_eq!(seen(store.get_range("data/aa/aab", 5, 10).await), (Kind::Unavailable, Again::Soon));
}

#[tokio::test]
async fn an_object_of_untold_length_is_read_to_its_end() {
    let whole = || answer("200 OK", &["Transfer-Encoding: chunked"], "5\r\n01234\r\n3\r\n567\r\n0\r\n\r\n");
    let (_server, store) = always(whole());
    assert_eq!(store.get("config", 8).await.unwrap(), "01234567");
    assert_eq!(seen(store.get("config", 7).await), (Kind::Unsupported, Again::Never));
    assert_eq!(seen(store.stat("config").await).0, Kind::Unsupported);
}

#[tokio::test]
async fn a_range_is_the_one_that_was_asked_for() {
    let part = |range: &str, body: &str| {
        sound("206 Partial Content", &[&format!("Content-Range: bytes {range}")], body)
    };
    let range = |answer| async {
        let (_server, store) = always(answer);
        store.get_range("data/aa/aab", 5, 5).await
    };
    assert_eq!(range(part("5-9/99", "56789")).await.unwrap(), "56789");
    assert_eq!(range(part("5-9/*", "56789")).await.unwrap(), "56789");
    for odd in
        [part("0-4/99", "01234"), part("5-8/99", "5678"), part("5-9/99", "567890"), part("junk", "56789")]
    {
        assert_eq!(seen(range(odd).await), (Kind::Unavailable, Again::Soon));
    }
    // The object is shorter than that.
    assert_eq!(seen(range(part("5-7/8", "567")).await), (Kind::Corrupt, Again::Never));
    let beyond = sound("416 Range Not Satisfiable", &["Content-Range: bytes */8"], "");
    assert_eq!(seen(range(beyond).await), (Kind::Corrupt, Again::Never));
    assert_eq!(seen(range(sound("416 Range Not Satisfiable", &[], "")).await).0, Kind::Corrupt);
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_is_told_so() {
    let (_server, store) = always(sound("200 OK", &[], "0123456789"));
    assert_eq!(store.get_range("data/aa/aab", 0, 10).await.unwrap(), "0123456789");
    for (offset, length) in [(0, 5), (5, 5)] {
        let (kind, _) = seen(store.get_range("data/aa/aab", offset, length).await);
        assert_eq!(kind, Kind::Unsupported, "{offset} {length}");
    }
    assert_eq!(seen(store.get_range("data/aa/aab", 5, 6).await).0, Kind::Corrupt);
}

#[tokio::test]
async fn sizes_are_believed_no_further_than_they_are_wanted() {
    let huge = format!("Content-Length: {}", u64::MAX / 2);
    let (_server, store) = always(answer("200 OK", &[&huge], "x"));
    assert_eq!(seen(store.get("config", MUCH).await).0, Kind::Unsupported);
    assert_eq!(seen(store.list("keys/").await).0, Kind::Unsupported);
}

#[tokio::test]
async fn what_does_not_answer_in_http_or_at_all_is_unavailable() {
    let (server, store) = always(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    assert_eq!(seen(store.stat("config").await), (Kind::Unavailable, Again::Never));
    drop(server);
    let (_server, store) = always(Vec::new());
    assert_eq!(seen(store.stat("config").await), (Kind::Unavailable, Again::Soon));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = self::store(&free.to_string()).stat("config").await.unwrap_err();
    assert_eq!((error.kind(), error.again()), (Kind::Unavailable, Again::Soon));
    assert!(error.to_string().starts_with("cannot be reached: "), "{error}");
}
