//! Extended attributes, ACLs, times, modes and links that no file system would hold.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::scene::{Scene, Script, Want, open, play, walked};
use crate::writer::{Repository, node};

#[tokio::test]
async fn attributes() {
    play(SCENES).await;
}

pub const SCENES: &[fn(&mut Repository) -> Script] = &[xattrs, acls, times, modes, false_links];

fn attribute(name: impl Into<Value>, value: impl Into<Value>) -> Value {
    json!({"name": name.into(), "value": value.into()})
}

/// Whatever the attributes are, the file can be read.
fn xattrs(repository: &mut Repository) -> Script {
    let blob = repository.data(b"attributed");
    let mut scene = Scene::new(repository, "xattrs");
    let value = STANDARD.encode(b"value");
    let large = |size: usize| STANDARD.encode(vec![b'v'; size]);
    let good = attribute("user.good", &*value);
    let lists = [
        ("70 KB", json!([attribute("user.large", large(70 << 10)), good])),
        ("64 KB", json!([attribute("user.full", large(65_536)), good])),
        ("bad base64", json!([attribute("user.bad", "!!not base64!!"), good])),
        ("odd base64", json!([attribute("user.odd", "dmFsdWU"), good])),
        ("null", json!([attribute("user.null", json!(null)), good])),
        ("numbers", json!([attribute("user.list", json!([1, 2])), good])),
        ("no name", json!([attribute(json!(null), &*value), good])),
        ("empty name", json!([attribute("", &*value), good])),
        ("nul name", json!([attribute("user.a\0b", &*value), good])),
        ("long name", json!([attribute(format!("user.{}", "n".repeat(251)), &*value), good])),
        ("bare name", json!([attribute("nonamespace", &*value), good])),
        ("junk", json!([null, 5, "x", [], {}, good])),
        ("twice", json!([attribute("user.good", large(3)), good])),
        ("thousands", (0..5000).map(|n| attribute(format!("user.{n}"), &*value)).collect()),
        ("no list", json!({"user.good": value})),
        ("text", json!("user.good")),
        ("empty", json!([])),
        ("none", json!(null)),
    ];
    for (name, list) in lists {
        let file = node::with(node::file(name, &[&blob]), json!({"extended_attributes": list}));
        let strict = !matches!(name, "no list" | "text" | "junk");
        let want = if strict { Want::Content(b"attributed".into()) } else { Want::Maybe };
        scene.node(name, file, want);
    }
    scene.end()
}

/// ACL blobs that the kernel would refuse.
fn acls(repository: &mut Repository) -> Script {
    let blob = repository.data(b"listed");
    let mut scene = Scene::new(repository, "acls");
    let entry = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let acl = |version: u32, entries: &[Vec<u8>]| [&version.to_le_bytes()[..], &entries.concat()].concat();
    let base = [entry(1, 6, u32::MAX), entry(4, 4, u32::MAX), entry(32, 4, u32::MAX)];
    let blobs = [
        ("empty", Vec::new()),
        ("version 1", acl(1, &base)),
        ("header", acl(2, &[])),
        ("cut", acl(2, &base)[..15].to_vec()),
        ("unknown tag", acl(2, &[base.to_vec(), vec![entry(64, 7, 0)]].concat())),
        ("permissions", acl(2, &[entry(1, 0xffff, 0), base[1].clone(), base[2].clone()])),
        ("two owners", acl(2, &[base[0].clone(), base[0].clone(), base[1].clone(), base[2].clone()])),
        ("no mask", acl(2, &[base[0].clone(), entry(2, 7, 1000), base[1].clone(), base[2].clone()])),
        ("huge", acl(2, &vec![entry(2, 7, 1); 5000])),
        ("random", (0..=255).collect()),
    ];
    for (name, acl) in blobs {
        let list = ["access", "default"]
            .map(|kind| attribute(format!("system.posix_acl_{kind}"), STANDARD.encode(&acl)));
        let file =
            node::with(node::file(name, &[&blob]), json!({"extended_attributes": list, "mode": 0o664}));
        scene.node(name, file, Want::Content(b"listed".into()));
    }
    scene.end()
}

/// A time that cannot be read costs the time.
fn times(repository: &mut Repository) -> Script {
    let blob = repository.data(b"timed");
    let mut scene = Scene::new(repository, "times");
    let (long, fraction) = ("9".repeat(100_000), format!("2026-01-01T00:00:00.{}Z", "1".repeat(10_000)));
    let times = [
        "0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:58.499999999Z",
        "9999-12-31T23:59:59.999999999Z",
        "1901-12-13T20:45:51Z",
        "2038-01-19T03:14:08Z",
        "2446-05-10T22:38:56Z",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-06-30T23:59:60Z",
        "2026-01-01T00:00:00+25:00",
        "2026-01-01T00:00:00-23:59",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "+292277026596-12-04T15:30:08Z",
        "2026-01-01",
        "now",
        "",
        "\0",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.1234567891Z",
        "0",
        &long,
        &fraction,
    ];
    for (nth, time) in times.into_iter().enumerate() {
        let name = format!("time {nth}");
        let file =
            node::with(node::file(&name, &[&blob]), json!({"mtime": time, "atime": time, "ctime": time}));
        scene.node(&name, file, Want::Content(b"timed".into()));
    }
    for (nth, time) in [json!(null), json!(0), json!(1e300), json!([]), json!({})].into_iter().enumerate() {
        let name = format!("untimed {nth}");
        let file = node::with(node::file(&name, &[&blob]), json!({"mtime": time}));
        scene.node(&name, file, Want::Maybe);
    }
    scene.end()
}

/// Every bit of a mode, one after the other.
fn modes(repository: &mut Repository) -> Script {
    let blob = repository.data(b"moded");
    let mut scene = Scene::new(repository, "modes");
    for bit in 0..32 {
        let name = format!("bit {bit}");
        let file = node::with(node::file(&name, &[&blob]), json!({"mode": 1_u32 << bit}));
        scene.node(&name, file, Want::Content(b"moded".into()));
    }
    scene.end()
}

/// Different files that say they are links of one.
fn false_links(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "false-links");
    let link = json!({"device_id": 5, "inode": 77, "links": 2});
    for content in ["one", "another", "a third, longer one"] {
        let blob = scene.repository.data(content.as_bytes());
        scene.node(
            content,
            node::with(node::file(content, &[&blob]), link.clone()),
            Want::Content(content.into()),
        );
    }
    let blob = scene.repository.data(b"one");
    for (name, fields) in [
        ("other mode", json!({"mode": 0o4755})),
        ("other owner", json!({"uid": 1000})),
        ("other time", json!({"mtime": "2020-01-01T00:00:00Z"})),
        ("other count", json!({"links": u32::MAX})),
        ("no count", json!({"links": 0})),
    ] {
        let file = node::with(node::with(node::file(name, &[&blob]), link.clone()), fields);
        scene.node(name, file, Want::Content(b"one".into()));
    }
    let fifo = node::with(node::file("fifo", &[]), json!({"type": "fifo", "content": null}));
    scene.node("fifo", node::with(fifo, link), Want::Whole);
    scene.end()
}

/// What is wrong is left out, and what stands beside it is there.
#[tokio::test]
async fn good_attributes_survive_bad_ones() {
    let mut repository = Repository::new(2);
    xattrs(&mut repository);
    acls(&mut repository);
    let source = open(repository.into_store()).await.unwrap();
    let walked_xattrs = walked(&*source, "/xattrs").await;
    for name in
        ["70 KB", "64 KB", "bad base64", "null", "no name", "empty name", "nul name", "long name", "twice"]
    {
        let found = walked_xattrs[name.as_bytes()].xattrs.as_ref().unwrap();
        assert!(found.contains_key(&b"user.good"[..]), "{name}: {:?}", found.keys());
    }
    assert_eq!(walked_xattrs[&b"64 KB"[..]].xattrs.as_ref().unwrap().len(), 2);
    assert_eq!(walked_xattrs[&b"thousands"[..]].xattrs.as_ref().unwrap().len(), 5000);
    for (name, found) in walked(&*source, "/acls").await {
        let acls = found.xattrs.unwrap();
        assert!(acls.is_empty(), "{}: {:?}", String::from_utf8_lossy(&name), acls.keys());
        // The group bits of a file with an ACL are its mask: without the ACL nobody knows what the group may do.
        if found.meta.perm == 0o664 {
            panic!("{}: the mask is shown as the group's permissions", String::from_utf8_lossy(&name));
        }
    }
}
