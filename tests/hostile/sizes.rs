//! Numbers that lie.

use serde_json::{Value, json};

use crate::scene::{Scene, Script, Want, open, play, walked};
use crate::writer::{Blob, Repository, Stored, node};

#[tokio::test]
async fn sizes() {
    play(SCENES).await;
}

/// So large when it is decompressed that it is parsed as a stream.
#[tokio::test]
async fn an_index_file_of_next_to_nothing_but_spaces_is_read() {
    let mut repository = Repository::new(2);
    let blob = repository.data(CONTENT);
    let tree = repository.tree(&[node::file("file", &[&blob])]);
    repository.snapshot("/spaces", &tree);
    let (_, pack) = repository.close();
    let json = format!(r#"{{"packs":{}[{pack}]}}"#, " ".repeat(40 << 20));
    let plain = [&[2], &crate::writer::frame::plain(json.as_bytes())[..]].concat();
    repository.unpacked("index", &plain);
    let source = open(repository.into_store()).await.unwrap();
    let usage = source.health().usage;
    assert_eq!((usage.objects, usage.bytes), (1, CONTENT.len() as u64));
    assert!(walked(&*source, "/spaces").await.contains_key(&b"file"[..]));
}

pub const SCENES: &[fn(&mut Repository) -> Script] =
    &[of_nodes, of_compressed_blobs, of_places, out_of_type, of_content];

const CONTENT: &[u8] = b"what was saved, which is what counts";

/// The recorded size says nothing: what was saved is shown.
fn of_nodes(repository: &mut Repository) -> Script {
    let blob = repository.data(CONTENT);
    let mut scene = Scene::new(repository, "of-nodes");
    for size in [0, 1, 35, 37, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX] {
        let name = format!("size {size}");
        let file = node::with(node::file(&name, &[&blob]), json!({"size": size}));
        scene.node(&name, file, Want::Content(CONTENT.into()));
    }
    let empty = node::with(node::file("empty", &[]), json!({"size": u64::MAX}));
    scene.node("empty", empty, Want::Content(Vec::new()));
    for size in [json!(-1), json!(1e300), json!(0.5), json!("7"), json!(null), json!([])] {
        let name = format!("size {size}");
        let file = node::with(node::file(&name, &[&blob]), json!({"size": size}));
        scene.node(&name, file, Want::Maybe);
    }
    // Where a blob is unknown the recorded size is shown.
    let missing = node::with(node::file("missing", &[&"ab".repeat(32)]), json!({"size": u64::MAX}));
    scene.node("missing", missing, Want::Damaged);
    scene.end()
}

/// The index lies about what a frame holds.
fn of_compressed_blobs(repository: &mut Repository) -> Script {
    let frame = crate::writer::frame::plain(CONTENT);
    let mut scene = Scene::new(repository, "of-compressed-blobs");
    let truth = CONTENT.len() as u64;
    for (salt, length) in
        [1, truth - 1, truth + 1, 1 << 20, 1 << 31, u64::from(u32::MAX)].into_iter().enumerate()
    {
        // Equal content would be equal blobs.
        let plain = [CONTENT, &[salt as u8]].concat();
        let stored =
            Stored::Frame(crate::writer::frame::plain(&plain), if length == 1 { 1 } else { length + 1 });
        let want = (length == truth - 1 + 1).then_some(&plain[..]);
        scene.blob(&format!("length {length}"), Blob { stored, ..Blob::data(&plain) }, want);
    }
    let right = Stored::Frame(frame, truth);
    scene.blob("right", Blob { stored: right, ..Blob::data(CONTENT) }, Some(CONTENT));
    let claimed =
        Blob { entry: json!({"uncompressed_length": 5}), stored: Stored::Plain, ..Blob::data(b"no frame") };
    scene.blob("no frame", claimed, None);
    scene.end()
}

/// The index lies about where a blob is.
fn of_places(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "of-places");
    let lies: Vec<Value> = vec![
        json!({"offset": 1}),
        json!({"offset": 1 << 20}),
        json!({"offset": u32::MAX}),
        json!({"length": 0}),
        json!({"length": 31}),
        json!({"length": 32}),
        json!({"length": 1 << 20}),
        json!({"length": u32::MAX}),
        json!({"offset": u32::MAX, "length": u32::MAX}),
        json!({"offset": 0, "length": 100}),
    ];
    for (nth, lie) in lies.into_iter().enumerate() {
        let content = format!("blob {nth}");
        let name = format!("{lie}").replace('"', "");
        scene.blob(&name, Blob { entry: lie, ..Blob::data(content.as_bytes()) }, None);
    }
    scene.repository.flush();
    scene.repository.index();
    // Each of these may cost the index file that it stands in, so that each has its own.
    let unheard: Vec<Value> = vec![
        json!({"offset": u64::MAX}),
        json!({"length": u64::MAX}),
        json!({"offset": 1_u64 << 32}),
        json!({"offset": -1}),
        json!({"length": -1}),
        json!({"length": 1e300}),
        json!({"offset": 0.5}),
        json!({"offset": "0"}),
        json!({"length": null}),
        json!({"length": "-"}),
        json!({"uncompressed_length": u64::MAX}),
        json!({"uncompressed_length": -1}),
        json!({"id": "-"}),
        json!({"id": "abc"}),
        json!({"id": null}),
        json!({"id": "G".repeat(64)}),
        json!({"type": "-"}),
        json!({"type": "tree"}),
        json!({"type": "other"}),
        json!({"type": 7}),
    ];
    for (nth, lie) in unheard.into_iter().enumerate() {
        let content = format!("unheard {nth}");
        let name = format!("{lie}").replace('"', "");
        scene.blob(&name, Blob { entry: lie, ..Blob::data(content.as_bytes()) }, None);
        scene.repository.flush();
        scene.repository.index();
    }
    scene.end()
}

/// Numbers of nodes beyond anything a file system knows.
fn out_of_type(repository: &mut Repository) -> Script {
    let blob = repository.data(CONTENT);
    let mut scene = Scene::new(repository, "out-of-type");
    for field in ["mode", "uid", "gid", "inode", "device_id", "links", "device", "nothing like it"] {
        for value in [json!(u32::MAX), json!(1_u64 << 32), json!(u64::MAX), json!(0)] {
            let name = format!("{field} {value}");
            let file = node::with(node::file(&name, &[&blob]), json!({field: value}));
            // The format has 32 bits for these.
            let narrow = matches!(field, "mode" | "uid" | "gid") && value.as_u64() > Some(u32::MAX.into());
            scene.node(&name, file, if narrow { Want::Maybe } else { Want::Content(CONTENT.into()) });
        }
        for value in
            [json!(-1), json!(i64::MIN), json!(1e300), json!("x"), json!(null), json!({}), json!([1])]
        {
            let name = format!("{field} {value}");
            let file = node::with(node::file(&name, &[&blob]), json!({field: value}));
            scene.node(&name, file, Want::Maybe);
        }
    }
    let devices = [0, 259, 1 << 31, u64::from(u32::MAX), 1 << 32, u64::MAX];
    for (kind, device) in ["dev", "chardev", "fifo", "socket"].iter().flat_map(|k| devices.map(|d| (k, d))) {
        let name = format!("{kind} {device}");
        let device = json!({"type": kind, "device": device, "content": null, "mode": 0o7777});
        scene.node(&name, node::with(node::file(&name, &[]), device), Want::Maybe);
    }
    scene.end()
}

/// Lists of blobs that are no lists of blobs.
fn of_content(repository: &mut Repository) -> Script {
    let blob = repository.data(CONTENT);
    let zeros = repository.data(&[0; 512 << 10]);
    let mut scene = Scene::new(repository, "of-content");
    let four = node::file("four times", &[&*blob; 4]);
    scene.node("four times", four, Want::Content(CONTENT.repeat(4)));
    let holes = node::file("holes", &[&zeros, &blob, &zeros, &zeros]);
    let expected = [&[0; 512 << 10], CONTENT, &[0; 1 << 20]].concat();
    scene.node("holes", holes, Want::Content(expected));
    for (name, content) in [
        ("null", json!(null)),
        ("none", json!("-")),
        ("text", json!(blob)),
        ("numbers", json!([1, 2])),
        ("nulls", json!([null])),
        ("object", json!({"a": 1})),
        ("short", json!(["ab"])),
        ("upper", json!([blob.to_uppercase()])),
        ("not hex", json!(["x".repeat(64)])),
        ("nested", json!([[blob]])),
    ] {
        scene.node(name, node::with(node::file(name, &[]), json!({"content": content})), Want::Maybe);
    }
    let half = node::file("half", &[&blob, &"cd".repeat(32)]);
    scene.node("half", half, Want::Damaged);
    scene.end()
}
