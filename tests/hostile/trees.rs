//! Trees that are not what a tree should be.

use serde_json::json;

use crate::scene::{Scene, Script, Want, play};
use crate::writer::{Blob, Repository, Stored, id, node};

#[tokio::test]
async fn trees() {
    play(SCENES).await;
}

pub const SCENES: &[fn(&mut Repository) -> Script] = &[junk, mixed, forged, types];

/// Each costs the directory that it stands for.
fn junk(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "junk");
    let good = json!({"nodes": [node::file("x", &[])]}).to_string();
    let texts: Vec<(&str, Vec<u8>)> = vec![
        ("empty", b"".to_vec()),
        ("not json", b"hello".to_vec()),
        ("binary", vec![0xff; 1000]),
        ("cut", good.as_bytes()[..good.len() - 2].to_vec()),
        ("cut in a name", br#"{"nodes":[{"name":"x"#.to_vec()),
        ("number", b"5".to_vec()),
        ("list", b"[]".to_vec()),
        ("text", br#""nodes""#.to_vec()),
        ("nodes number", br#"{"nodes":5}"#.to_vec()),
        ("nodes text", br#"{"nodes":"x"}"#.to_vec()),
        ("nodes object", br#"{"nodes":{}}"#.to_vec()),
        ("tail", format!("{good}{good}").into_bytes()),
        ("deep list", [&b"{\"nodes\":["[..], &[b'['; 100_000], &[b']'; 100_000], b"]}"].concat()),
        ("deep unclosed", [b"{\"nodes\":[".to_vec(), b"{\"a\":".repeat(100_000)].concat()),
        ("bad utf-8", b"{\"nodes\":[{\"name\":\"\xff\",\"type\":\"file\"}]}".to_vec()),
        ("bom", format!("\u{feff}{good}").into_bytes()),
    ];
    for (name, text) in texts {
        let tree = scene.repository.tree_text(&text);
        // How much of a half-broken tree is shown is up to the reader; that the others are is not.
        let strict = !matches!(name, "deep list" | "bad utf-8" | "bom" | "list");
        scene.node(name, node::dir(name, &tree), if strict { Want::Damaged } else { Want::Maybe });
    }
    for (name, text) in [
        ("null", r#"{"nodes":null}"#),
        ("none", "{}"),
        ("unknown keys", r#"{"a":[[{"b":null}]],"nodes":[],"z":1e999999}"#),
        ("space", " {\n\"nodes\" : [ ] }\n\n"),
    ] {
        let tree = scene.repository.tree_text(text.as_bytes());
        scene.node(name, node::dir(name, &tree), Want::Whole);
    }
    for (name, subtree) in [
        ("no subtree", json!("-")),
        ("null subtree", json!(null)),
        ("short subtree", json!("abcd")),
        ("number subtree", json!(5)),
    ] {
        scene.node(name, node::with(node::dir(name, ""), json!({"subtree": subtree})), Want::Maybe);
    }
    scene.node("missing", node::dir("missing", &"ef".repeat(32)), Want::Damaged);
    scene.end()
}

/// Good entries among junk in one tree.
fn mixed(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "mixed");
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    for junk in [
        json!(null),
        json!(5),
        json!("x"),
        json!([]),
        json!({}),
        json!(true),
        deep,
        json!({"name": "typeless"}),
    ] {
        scene.hidden(junk);
    }
    scene.good("between");
    let blob = scene.repository.data(b"huge");
    let huge = "h".repeat(5 << 20);
    let fields = json!({"user": huge, "group": huge, "unknown": [huge, {"a": huge}], "error": huge});
    scene.node("huge strings", node::with(node::file("huge strings", &[&blob]), fields), Want::Maybe);
    let fields = json!({"user": 5, "group": [], "extended_attributes": "x", "generic_attributes": 9});
    scene.node("wrong types", node::with(node::file("wrong types", &[&blob]), fields), Want::Maybe);
    scene.end()
}

/// Ids that are not those of their bytes: a tree can lead back to nobody.
fn forged(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "forged");
    let content = b"the right content";
    scene.blob("other data", Blob { id: Some(id(b"forged")), ..Blob::data(content) }, None);
    scene.blob(
        "stored plain",
        Blob { id: Some(id(b"forged plain")), stored: Stored::Plain, ..Blob::data(content) },
        None,
    );
    let own = id(b"a tree that holds itself");
    let text = json!({"nodes": [node::dir("again", &own)]}).to_string();
    scene.broken_tree("cycle", Blob { id: Some(own), ..Blob::tree(text.as_bytes()) });
    // A data blob is no tree, whatever it holds, and a tree is no data.
    let text = json!({"nodes": [node::file("x", &[])]}).to_string();
    let data = scene.repository.data(text.as_bytes());
    scene.node("data as tree", node::dir("data as tree", &data), Want::Damaged);
    let text = json!({"nodes": [node::file("y", &[])]}).to_string();
    let tree = scene.repository.tree_text(text.as_bytes());
    scene.node("tree as data", node::file("tree as data", &[&tree]), Want::Damaged);
    scene.repository.put("data/zz/junk", b"not a pack");
    scene.end()
}

/// Types that nobody knows are shown nowhere or everywhere, never half.
fn types(repository: &mut Repository) -> Script {
    let blob = repository.data(b"typed");
    let empty = repository.tree(&[]);
    let mut scene = Scene::new(repository, "types");
    for kind in ["irregular", "", "weird", "FILE", "file\0"] {
        let name = format!("type {kind:?}");
        scene.node(&name, node::with(node::file(&name, &[&blob]), json!({"type": kind})), Want::Maybe);
    }
    for kind in [json!("-"), json!(null), json!(5), json!(["file"])] {
        let name = format!("type {kind}");
        scene.node(&name, node::with(node::file(&name, &[&blob]), json!({"type": kind})), Want::Maybe);
    }
    // The type decides, never the mode.
    let disguised =
        node::with(node::file("disguised", &[&blob]), json!({"mode": 2_147_484_141_u32, "subtree": empty}));
    scene.node("disguised", disguised, Want::Content(b"typed".into()));
    let dir = node::with(node::dir("no dir bits", &empty), json!({"mode": 0, "content": [blob]}));
    scene.node("no dir bits", dir, Want::Whole);
    scene.end()
}
