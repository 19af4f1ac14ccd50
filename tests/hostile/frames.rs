//! Compression against the reader.

use crate::scene::{Scene, Script, Want, play};
use crate::writer::{Blob, Repository, Stored, frame, id, node};

#[tokio::test]
async fn frames() {
    play(SCENES).await;
}

pub const SCENES: &[fn(&mut Repository) -> Script] = &[bombs, windows, garbage];

/// Four gibibytes in 128 KiB.
const BOMB: usize = 4 << 30;

fn bombs(repository: &mut Repository) -> Script {
    let bomb = frame::bomb(BOMB / frame::BLOCK, 20);
    let mut scene = Scene::new(repository, "bombs");
    for length in [1, 1000, 1 << 20, (8 << 20) - 1] {
        let stored = || Stored::Frame(bomb.clone(), length);
        let blob = Blob { id: Some(id(&length.to_be_bytes())), stored: stored(), ..Blob::data(b"") };
        scene.blob(&format!("data {length}"), blob, None);
        let tree = Blob { id: Some(id(&length.to_le_bytes())), stored: stored(), ..Blob::tree(b"") };
        scene.broken_tree(&format!("tree {length}"), tree);
    }
    scene.end()
}

/// rustic writes windows of up to 128 MiB; what is beyond may be refused or served, but exactly.
fn windows(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "windows");
    for log in [10, 17, 20, 27] {
        let plain = format!("window {log} ").repeat(1000).into_bytes();
        let stored = Stored::Frame(frame::windowed(&plain, log), plain.len() as u64);
        scene.blob(&format!("window {log}"), Blob { stored, ..Blob::data(&plain) }, Some(&plain));
    }
    for log in [27, 28, 31, 40] {
        let plain = vec![0; frame::BLOCK];
        let salted = [&plain[..], &[]].concat();
        let stored = Stored::Frame(frame::bomb(1, log), salted.len() as u64);
        // The same content four times: each under a name that is not its own cannot be read.
        let blob = Blob { stored, id: Some(id(&[log])), ..Blob::data(&salted) };
        scene.blob(&format!("forged window {log}"), blob, None);
    }
    let tree = br#"{"nodes":[]}"#;
    let stored = Stored::Frame(frame::windowed(tree, 27), tree.len() as u64);
    let id = scene.repository.add(Blob { stored, ..Blob::tree(tree) });
    scene.node("tree", node::dir("tree", &id), Want::Whole);
    scene.end()
}

fn garbage(repository: &mut Repository) -> Script {
    let mut scene = Scene::new(repository, "garbage");
    let whole = frame::plain(&[7; 5000]);
    let flipped = |at: usize| {
        let mut frame = whole.clone();
        frame[at] ^= 0xff;
        frame
    };
    let frames = [
        Vec::new(),
        b"not a frame".to_vec(),
        whole[..4].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        flipped(0),
        flipped(4),
        flipped(whole.len() - 1),
        // A frame to be skipped, and nothing after it.
        [&[0x50, 0x2a, 0x4d, 0x18], &4_u32.to_le_bytes()[..], b"skip"].concat(),
        // More than was promised: a second frame behind the first.
        [&whole[..], &whole].concat(),
    ];
    for (nth, frame) in frames.into_iter().enumerate() {
        let plain = [[7; 5000].as_slice(), &[nth as u8]].concat();
        let stored = Stored::Frame(frame, 5001);
        scene.blob(&format!("frame {nth}"), Blob { stored, ..Blob::data(&plain) }, None);
    }
    scene.end()
}
