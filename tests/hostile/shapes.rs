//! Trees of extreme shape: deep, wide, and many.

use crate::scene::{Scene, Script, Want, play};
use crate::writer::{Repository, node};

#[tokio::test]
async fn shapes() {
    play(SCENES).await;
}

pub const SCENES: &[fn(&mut Repository) -> Script] = &[deep];

/// Levels of one directory in another.
const LEVELS: usize = 3000;

/// Entries of one directory.
pub const ENTRIES: usize = 200_000;

fn deep(repository: &mut Repository) -> Script {
    let bottom = repository.data(b"bottom");
    let mut tree = repository.tree(&[node::file("bottom", &[&bottom])]);
    for _ in 1..LEVELS {
        tree = repository.tree(&[node::dir("d", &tree)]);
    }
    let mut scene = Scene::new(repository, "deep");
    scene.node("d", node::dir("d", &tree), Want::Whole);
    let mut path = String::from("d");
    for _ in 1..LEVELS {
        path.push_str("/d");
        scene.want(&path, Want::Whole);
    }
    scene.want(path + "/bottom", Want::Content(b"bottom".into()));
    scene.end()
}

/// One directory of many files, of which three blobs are all the content.
pub fn wide(repository: &mut Repository) -> Script {
    let blobs = ["red", "green", "blue"].map(|content| repository.data(content.as_bytes()));
    let mut scene = Scene::new(repository, "wide");
    for nth in 0..ENTRIES {
        let name = format!("entry number {nth}");
        let colour = nth % 3;
        let content = ["red", "green", "blue"][colour];
        scene.node(&name, node::file(&name, &[&blobs[colour]]), Want::Content(content.into()));
    }
    scene.end()
}
