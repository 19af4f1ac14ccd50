//! Names that cannot be shown, names that look as if they could not, and names that come twice.

use serde_json::json;

use crate::scene::{Scene, Script, Want, play};
use crate::writer::{Repository, node};

#[tokio::test]
async fn names() {
    play(SCENES).await;
}

pub const SCENES: &[fn(&mut Repository) -> Script] = &[unshowable, odd, twice, links];

/// Each costs its own entry and nothing else.
fn unshowable(repository: &mut Repository) -> Script {
    let blob = repository.data(b"bad");
    let mut scene = Scene::new(repository, "unshowable");
    let long = "x".repeat(256);
    let names = [
        "",
        "..",
        "a/b",
        "/etc/passwd",
        "../../etc/passwd",
        "a\0b",
        "\\x00",
        "\\u0000",
        "nul\\000",
        "\\x2f",
        "sla\\057sh",
        "\\x2e\\x2e",
        "bad\\q",
        "\\xZZ",
        "\\x1",
        "\\",
        "end\\",
        "\\u12",
        "\\U00110000",
        "\\ud800",
        "\\400",
        &long,
        "\\\\server\\share",
    ];
    for name in names {
        scene.hidden(node::file(name, &[&blob]));
        scene.hidden(node::with(node::dir(name, &blob), json!({"type": "symlink", "linktarget": "x"})));
    }
    for name in [json!(null), json!(5), json!(["a"]), json!({}), json!(true), json!("-")] {
        scene.hidden(node::with(node::file("x", &[&blob]), json!({"name": name})));
    }
    // Nobody writes these; some readers take them, and they can mean one thing only.
    for (name, quoted) in [("'", "\\'"), ("qu\"ote", "qu\"ote"), ("line\nbreak", "line\nbreak")] {
        scene.node(name, node::file(quoted, &[&blob]), Want::Maybe);
    }
    // A directory called `.` or `/` is the directory itself, which ends with a subtree that is not there.
    scene.hidden(node::file(".", &[&blob]));
    scene.hidden(node::file("/", &[&blob]));
    scene.end()
}

/// Strange, and to be shown byte for byte.
fn odd(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "odd");
    let longest = [b'y'; 255];
    let names: [&[u8]; 17] = [
        b"-rf",
        b"...",
        b" ",
        b"\n",
        b"\x1b[2J",
        b"\xff\xfe",
        b"latin\xe9",
        b"\xed\xa0\x80",
        b"quote\"",
        b"back\\slash",
        b"%2F",
        b"con.txt",
        b"\x7f",
        "\u{202e}txt".as_bytes(),
        "\u{e9}".as_bytes(),
        "e\u{301}".as_bytes(),
        &longest,
    ];
    for name in names {
        let blob = scene.repository.data(name);
        scene.node(name, node::file(&node::quote(name), &[&blob]), Want::Content(name.into()));
    }
    scene.end()
}

/// The last one is shown.
fn twice(repository: &mut Repository) -> Script {
    let (one, two) = (repository.data(b"one"), repository.data(b"two"));
    let inner = repository.tree(&[node::file("inner", &[&one])]);
    let mut scene = Scene::new(repository, "twice");
    scene.hidden(node::file("files", &[&one]));
    scene.node("files", node::file("files", &[&two]), Want::Content(b"two".into()));
    scene.hidden(node::dir("dir then file", &inner));
    scene.node("dir then file", node::file("dir then file", &[&two]), Want::Content(b"two".into()));
    scene.hidden(node::file("file then dir", &[&one]));
    scene.node("file then dir", node::dir("file then dir", &inner), Want::Whole);
    scene.want("file then dir/inner", Want::Content(b"one".into()));
    // Equal once it is decoded.
    scene.hidden(node::file("AB", &[&one]));
    scene.node("AB", node::file("\\x41\\102", &[&two]), Want::Content(b"two".into()));
    for _ in 0..1000 {
        scene.hidden(node::file("often", &[&one]));
    }
    scene.node("often", node::file("often", &[&two]), Want::Content(b"two".into()));
    scene.end()
}

/// Targets are shown as recorded and never followed.
fn links(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "links");
    let long = "x/".repeat(2000);
    for target in ["/etc/passwd", "../../../..", ".", "\x1b[2J\n", &long] {
        let name = format!("to {}", target.len());
        scene.node(&name, node::symlink(&name, target), Want::Content(target.into()));
    }
    let raw = node::with(node::symlink("raw", "\u{fffd}"), json!({"linktarget_raw": "/w=="}));
    scene.node("raw", raw, Want::Content(b"\xff".into()));
    let huge = "y".repeat(100_000);
    for (name, fields) in [
        ("nul", json!({"linktarget": "a\0b"})),
        ("empty", json!({"linktarget": ""})),
        ("none", json!({"linktarget": "-"})),
        ("number", json!({"linktarget": 7})),
        ("bad raw", json!({"linktarget_raw": "!!!"})),
        ("huge", json!({"linktarget": huge})),
    ] {
        scene.node(name, node::with(node::symlink(name, "t"), fields), Want::Maybe);
    }
    scene.end()
}
