//! Packs and indexes that are damaged, doubled or hostile.

use serde_json::json;

use crate::scene::{Scene, Script, Want, open, play, walked};
use crate::writer::{Blob, Repository, Stored, frame, node};

#[tokio::test]
async fn damage() {
    play(SCENES).await;
}

pub const SCENES: &[fn(&mut Repository) -> Script] =
    &[packs, copies, both_copies_damaged, mixed_packs, marked_for_deletion, indexes];

/// Packs that lost something.
fn packs(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "packs");
    scene.repository.flush();
    for name in ["missing pack", "empty pack", "cut pack", "flipped pack", "zeroed pack"] {
        scene.blob(name, Blob::data(name.as_bytes()), None);
        let key = scene.repository.flush();
        let pack = scene.repository.object(&key);
        match name {
            "empty pack" => pack.clear(),
            "cut pack" => pack.truncate(30),
            "flipped pack" => pack[20] ^= 1,
            "zeroed pack" => pack.fill(0),
            _ => scene.repository.remove(&key),
        }
    }
    // Damage at the end of a pack leaves its beginning alone.
    scene.good("before the damage");
    let at = scene.repository.position();
    scene.blob("behind", Blob::data(b"behind the damage"), None);
    let key = scene.repository.flush();
    scene.repository.object(&key)[at..].fill(1);
    scene.end()
}

/// Of two copies the good one is served, whichever comes first.
fn copies(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "copies");
    scene.repository.flush();
    for (name, damaged) in
        [("first damaged", 0), ("second damaged", 1), ("first missing", 2), ("second missing", 3)]
    {
        scene.blob(name, Blob::data(name.as_bytes()), Some(name.as_bytes()));
        let first = scene.repository.flush();
        scene.repository.add(Blob::data(name.as_bytes()));
        let second = scene.repository.flush();
        match damaged {
            0 => scene.repository.object(&first)[20] ^= 1,
            1 => scene.repository.object(&second)[20] ^= 1,
            2 => scene.repository.remove(&first),
            _ => scene.repository.remove(&second),
        }
    }
    // Which of two sizes is true shows only when the blob is read, and a file cannot have both.
    for (name, length) in [("shorter", 40), ("longer", 70)] {
        let lie = |name: &'static str| Blob {
            entry: json!({"length": length}),
            stored: Stored::Plain,
            ..Blob::data(name.as_bytes())
        };
        let truth = |name: &'static str| Blob { stored: Stored::Plain, ..Blob::data(name.as_bytes()) };
        let (one, two) = if length == 40 {
            ("shorter, first", "shorter, second")
        } else {
            ("longer, first", "longer, second")
        };
        scene.disputed(one, lie(one), truth(one));
        scene.disputed(two, truth(two), lie(two));
        scene.good(name);
    }
    let tree = json!({"nodes": []}).to_string();
    let id = scene.repository.add(Blob { stored: Stored::Raw(vec![1; 80]), ..Blob::tree(tree.as_bytes()) });
    scene.repository.flush();
    scene.repository.add(Blob::tree(tree.as_bytes()));
    scene.repository.flush();
    scene.node("tree", node::dir("tree", &id), Want::Whole);
    scene.end()
}

fn both_copies_damaged(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "both-copies-damaged");
    scene.repository.flush();
    for _ in 0..2 {
        scene.repository.add(Blob::data(b"twice damaged"));
        let key = scene.repository.flush();
        scene.repository.object(&key)[20] ^= 1;
    }
    let blob = crate::writer::id(b"twice damaged");
    scene.node("file", node::file("file", &[&blob]), Want::Damaged);
    scene.end()
}

/// Trees beside data, compressed beside plain, and one text as both a tree and data.
fn mixed_packs(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "mixed-packs");
    scene.blob("plain", Blob { stored: Stored::Plain, ..Blob::data(b"plain") }, Some(b"plain"));
    let compressed = Stored::Frame(frame::plain(b"compressed"), 10);
    scene.blob("compressed", Blob { stored: compressed, ..Blob::data(b"compressed") }, Some(b"compressed"));
    let text = json!({"nodes": [], "mixed": 1}).to_string();
    let tree = scene.repository.tree_text(text.as_bytes());
    scene.node("tree", node::dir("tree", &tree), Want::Whole);
    scene.blob("same text", Blob::data(text.as_bytes()), Some(text.as_bytes()));
    scene.blob("empty blob", Blob { stored: Stored::Plain, ..Blob::data(b"") }, Some(b""));
    scene.end()
}

/// rustic keeps packs for a while after they left the index.
fn marked_for_deletion(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "marked-for-deletion");
    scene.repository.flush();
    scene.blob("kept", Blob::data(b"only in a marked pack"), Some(b"only in a marked pack"));
    let (_, pack) = scene.repository.close();
    scene.repository.json("index", &json!({"packs": [], "packs_to_delete": [pack]}));
    scene.end()
}

/// Index files that are not.
fn indexes(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "indexes");
    scene.repository.flush();
    scene.repository.index();
    let blob = scene.repository.data(b"listed strangely");
    scene.node("listed", node::file("listed", &[&blob]), Want::Content(b"listed strangely".into()));
    let (id, pack) = scene.repository.close();
    let texts = [
        String::new(),
        "hello".into(),
        "5".into(),
        "null".into(),
        "[]".into(),
        "{}".into(),
        r#"{"packs":null}"#.into(),
        r#"{"packs":5}"#.into(),
        r#"{"packs":[null,5,"x",[],{}]}"#.into(),
        r#"{"packs":[{"id":"zz","blobs":[]}]}"#.into(),
        format!(r#"{{"packs":[{{"id":"{id}","blobs":null}}]}}"#),
        format!(r#"{{"packs":[{{"id":"{id}","blobs":[null,5,{{}},{{"id":"x"}}]}}]}}"#),
        format!("{{\"packs\":{}", "[".repeat(100_000)),
        format!(r#"{{"supersedes":["{id}",5,null],"packs":[]}}"#),
        r#"{"packs":[],"packs_to_delete":{"a":[]}}"#.into(),
    ];
    for text in texts {
        scene.repository.unpacked("index", text.as_bytes());
    }
    // The pack twice in one file, with keys that nobody knows.
    let mut other = pack.clone();
    other["time"] = json!("yesterday");
    other["size"] = json!(-1);
    scene.repository.json("index", &json!({"packs": [other, pack], "later": {"packs": []}}));
    let sealed = scene.repository.seal(b"{\"packs\":[]}");
    scene.repository.stored("index", &sealed[..sealed.len() - 1]);
    scene.repository.stored("index", b"");
    scene.repository.stored("index", &[0xaa; 100]);
    let named_wrong = "ab".repeat(32);
    scene.repository.put(&format!("index/{named_wrong}"), &sealed);
    scene.repository.put("index/not-an-id", b"x");
    scene.repository.put(&format!("index/{}-tmp-123", "cd".repeat(32)), b"x");
    scene.end()
}

/// A repository of which nothing but its damage differs tells what is wrong with it.
#[tokio::test]
async fn damage_is_counted() {
    let mut repository = Repository::new(2);
    let script = packs(&mut repository);
    indexes(&mut repository);
    let source = open(repository.into_store()).await.unwrap();
    drop(script);
    walked(&*source, "/packs").await;
    assert!(source.health().omitted > 0);
}
