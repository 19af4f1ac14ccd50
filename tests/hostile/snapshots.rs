//! Snapshot files that are garbage cost themselves, and those that are merely strange can be opened.

use serde_json::{Value, json};

use crate::scene::{Scene, open, walked};
use crate::writer::{Repository, node};

/// A repository with one good snapshot of `/good`.
fn with_good(version: u8) -> (Repository, String) {
    let mut repository = Repository::new(version);
    Scene::new(&mut repository, "good").end();
    let blob = repository.data(b"strange");
    let tree = repository.tree(&[node::file("file", &[&blob])]);
    (repository, tree)
}

#[tokio::test]
async fn garbage_is_left_out() {
    for version in [1, 2] {
        let (mut repository, tree) = with_good(version);
        let time = "2026-01-01T00:00:00Z";
        let garbage: Vec<Value> = vec![
            json!(null),
            json!(5),
            json!([]),
            json!({}),
            json!({"time": time}),
            json!({"tree": tree}),
            json!({"time": "never", "tree": tree}),
            json!({"time": 5, "tree": tree}),
            json!({"time": "2026-01-01T00:00:00+99:99", "tree": tree}),
            json!({"time": time, "tree": "short"}),
            json!({"time": time, "tree": null}),
            json!({"time": time, "tree": 5}),
            json!({"time": time, "tree": "x".repeat(64)}),
        ];
        for json in &garbage {
            repository.json("snapshots", json);
        }
        for text in [&b""[..], b"{", b"hello", b"\xff\xff", b"\x02not zstd", b"\x07unknown"] {
            repository.unpacked("snapshots", text);
        }
        let sealed = repository.seal(br#"{"time":"2026-01-01T00:00:00Z"}"#);
        repository.stored("snapshots", &sealed[..20]);
        repository.stored("snapshots", &[0; 500]);
        repository.stored("snapshots", b"");
        repository.put(&format!("snapshots/{}", "00".repeat(32)), &sealed);
        repository.put("snapshots/README", b"not a snapshot");
        let source = open(repository.into_store()).await.unwrap();
        let shown: Vec<_> = source.snapshots().iter().map(|snapshot| snapshot.paths.clone()).collect();
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert_eq!(walked(&*source, "/good").await.len(), 3);
        // What is no id is no file of the repository; everything else is told.
        assert_eq!(source.health().omitted, garbage.len() as u64 + 6 + 4);
    }
}

/// Each is a snapshot, and whatever of it can be opened can be walked.
#[tokio::test]
async fn strange_ones_can_be_opened() {
    let (mut repository, tree) = with_good(2);
    let huge = "p".repeat(1 << 20);
    let fields = [
        json!({"paths": []}),
        json!({"paths": null}),
        json!({"paths": [""]}),
        json!({"paths": ["/"]}),
        json!({"paths": ["."]}),
        json!({"paths": ["../.."]}),
        json!({"paths": ["/../../etc"]}),
        json!({"paths": ["/a\u{0}b"]}),
        json!({"paths": ["C:\\Users\\x", "\\\\server\\share"]}),
        json!({"paths": [huge]}),
        json!({"paths": vec!["/file"; 10_000]}),
        json!({"hostname": "../../etc\u{0}\n"}),
        json!({"hostname": huge}),
        json!({"hostname": null, "username": null, "tags": null, "uid": -1}),
        json!({"tags": vec!["t"; 10_000], "excludes": 7, "summary": "x", "parent": 5}),
        json!({"time": "0001-01-01T00:00:00Z"}),
        json!({"time": "9999-12-31T23:59:59.999999999+23:59"}),
        json!({"tree": "ab".repeat(32)}),
    ];
    for fields in &fields {
        let snapshot =
            json!({"time": "2026-02-02T00:00:00Z", "tree": tree, "paths": ["/file"], "hostname": "h"});
        repository.json("snapshots", &node::with(snapshot, fields.clone()));
    }
    let source = open(repository.into_store()).await.unwrap();
    assert_eq!(source.snapshots().len(), 1 + fields.len());
    for snapshot in source.snapshots().iter() {
        assert!(!snapshot.paths.is_empty());
        for path in 0..snapshot.paths.len().min(3) {
            if let Ok(opened) = source.open(&snapshot.id, path).resolve().await {
                crate::harness::walk::walk(opened.node).await;
            }
        }
        assert!(source.open(&snapshot.id, usize::MAX).resolve().await.is_err());
    }
}

/// A snapshot that goes while it is open stays readable, and is gone for whoever comes later.
#[tokio::test]
async fn removed_ones_go() {
    let mut repository = Repository::new(2);
    Scene::new(&mut repository, "good").end();
    let tree = repository.tree(&[node::file("x", &[])]);
    let id = repository.snapshot("/going", &tree);
    let store = repository.into_store();
    let source = open(store.clone()).await.unwrap();
    let going = crate::scene::snapshot_of(&*source, "/going").unwrap();
    let opened = source.open(&going.id, 0).resolve().await.unwrap();
    store.remove(&format!("snapshots/{id}")).unwrap();
    assert!(source.refresh().await.unwrap());
    assert_eq!(crate::harness::walk::walk(opened.node).await.len(), 2);
    assert!(crate::scene::snapshot_of(&*source, "/going").is_none());
    let error = source.open(&going.id, 0).resolve().await.err().unwrap();
    assert_eq!(error.kind(), backupfs::error::Kind::Stale);
    assert!(!source.refresh().await.unwrap());
}
