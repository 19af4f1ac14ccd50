//! Memory stays bounded whatever a repository claims: each walk has a process of its own, whose peak is looked at.

use std::env;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use backupfs::store::Local;
use backupfs::tree::{Content, Entry, Node};

use crate::scene::{Scene, open};
use crate::shapes;
use crate::writer::{Blob, Repository, Stored, frame, id};

/// What tells the child where the repository is.
const DIRECTORY: &str = "HOSTILE_REPOSITORY";

/// The test below, as the child runs it.
const CHILD: &str = "memory::a_walk_tells_its_peak";

/// Walks everything and keeps nothing; answers how many entries there are and how many could not be read.
async fn skim(root: Node) -> (usize, usize) {
    let (mut entries, mut damaged) = (0, 0);
    let mut open = vec![root];
    while let Some(node) = open.pop() {
        let read = match &node.content {
            Content::Dir(dir) => match dir.listing().resolve().await {
                Ok(listing) => {
                    let mut names = Vec::new();
                    listing.visit(0, &mut |entry: &Entry<'_>| {
                        entries += 1;
                        // Of a wide directory every tenth entry is looked up.
                        if entries % 10 == 0 || names.len() < 100 {
                            names.push(entry.name.to_vec());
                        }
                        ControlFlow::Continue(())
                    });
                    for name in names {
                        open.extend(dir.lookup(&name).resolve().await.unwrap());
                    }
                    true
                }
                Err(_) => false,
            },
            Content::File(file) => match file.open().resolve().await {
                Ok(reader) => reader.read_at(0, 1 << 20).resolve().await.is_ok(),
                Err(_) => false,
            },
            Content::Symlink(_) | Content::Special => true,
        };
        damaged += usize::from(!read);
    }
    (entries, damaged)
}

/// What a line of `/proc/self/status` says in KiB.
fn status(line: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    line.trim_matches([':', '\t', ' ']).strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

/// The child's part; by itself, a walk of a small repository.
#[tokio::test]
async fn a_walk_tells_its_peak() {
    let own = tempfile::tempdir().unwrap();
    let directory = env::var_os(DIRECTORY).unwrap_or_else(|| {
        let mut repository = Repository::new(2);
        Scene::new(&mut repository, "small").end();
        repository.write(own.path());
        own.path().into()
    });
    let source = open(Arc::new(Local::new(directory).unwrap())).await.unwrap();
    let (mut entries, mut damaged) = (0, 0);
    for snapshot in source.snapshots().iter() {
        match source.open(&snapshot.id, 0).resolve().await {
            Ok(opened) => {
                let (more, worse) = skim(opened.node).await;
                (entries, damaged) = (entries + more, damaged + worse);
            }
            Err(_) => damaged += 1,
        }
    }
    println!("\nPEAK {entries} {damaged} {}", status("VmHWM"));
    assert!(entries >= 2);
}

/// Entries, damaged ones, and the peak in MiB of a process that walks `repository`.
fn peak(repository: Repository) -> (usize, usize, u64) {
    let directory = tempfile::tempdir().unwrap();
    repository.write(directory.path());
    walk_of(directory.path())
}

fn walk_of(directory: &Path) -> (usize, usize, u64) {
    let mut child = Command::new(env::current_exe().unwrap());
    let child = child.args([CHILD, "--exact", "--nocapture"]).env(DIRECTORY, directory);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find_map(|line| line.strip_prefix("PEAK ")).unwrap_or_else(|| panic!("{said}"));
    println!("{line}");
    let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    (numbers[0] as usize, numbers[1] as usize, numbers[2] >> 10)
}

#[test]
fn two_hundred_thousand_entries() {
    let mut repository = Repository::new(2);
    shapes::wide(&mut repository);
    let (entries, damaged, peak) = peak(repository);
    assert_eq!((entries, damaged), (shapes::ENTRIES + 2, 0));
    assert!(peak < 300, "{peak} MiB");
}

#[test]
fn three_thousand_levels() {
    let mut repository = Repository::new(2);
    (shapes::SCENES[0])(&mut repository);
    let (entries, damaged, peak) = peak(repository);
    assert_eq!((entries, damaged), (3003, 0));
    assert!(peak < 150, "{peak} MiB");
}

/// Four gibibytes of zeros in 128 KiB, in every place where something is decompressed.
#[test]
fn bombs() {
    let bomb = frame::bomb((4 << 30) / frame::BLOCK, 27);
    let mut repository = Repository::new(2);
    let mut scene = Scene::new(&mut repository, "bombs");
    for length in [1_u64, 1 << 20, 1 << 29, u64::from(u32::MAX)] {
        let stored = || Stored::Frame(bomb.clone(), length);
        let name = format!("{length}");
        scene.blob(&name, Blob { id: Some(id(name.as_bytes())), stored: stored(), ..Blob::data(b"") }, None);
        let name = format!("tree {length}");
        scene.broken_tree(&name, Blob { id: Some(id(name.as_bytes())), stored: stored(), ..Blob::tree(b"") });
    }
    scene.end();
    let unpacked = [&[2][..], &bomb].concat();
    repository.unpacked("index", &unpacked);
    repository.unpacked("snapshots", &unpacked);
    let (entries, damaged, peak) = peak(repository);
    assert_eq!((entries, damaged), (10, 8));
    // A tree may have 512 MiB, of which the truth shows only in the end.
    assert!(peak < 800, "{peak} MiB");
}

/// Files of up to two tebibytes, of which nothing is on the disk.
#[test]
fn sparse_files() {
    let mut repository = Repository::new(2);
    Scene::new(&mut repository, "sparse").end();
    let directory = tempfile::tempdir().unwrap();
    repository.write(directory.path());
    for folder in ["keys", "snapshots", "index"] {
        for nth in 0..20 {
            let path = directory.path().join(folder).join(id(&[nth]));
            std::fs::File::create(path).unwrap().set_len(1 << (22 + nth)).unwrap();
        }
    }
    let (entries, damaged, peak) = walk_of(directory.path());
    assert_eq!((entries, damaged), (2, 0));
    assert!(peak < 800, "{peak} MiB");
}

/// Bombs of valid JSON: compressed a thousand times, and of the right length and id.
#[test]
fn json_bombs() {
    let mut repository = Repository::new(2);
    let mut scene = Scene::new(&mut repository, "json");
    let space = [br#"{"nodes":["#.to_vec(), vec![b' '; 40 << 20], b"]}".to_vec()].concat();
    scene.broken_tree("space", Blob::tree(&space));
    let nulls = [br#"{"nodes":[null"#.to_vec(), b",null".repeat(8 << 20), b"]}".to_vec()].concat();
    scene.broken_tree("nulls", Blob::tree(&nulls));
    let text = [br#"{"x":""#.to_vec(), vec![b'a'; 40 << 20], br#"","nodes":[]}"#.to_vec()].concat();
    scene.broken_tree("text", Blob::tree(&text));
    scene.end();
    let nulls = "null,".repeat(2 << 20);
    let ids = format!("\"{}\",", id(b"x")).repeat(1 << 18);
    for json in [
        format!(r#"{{"packs":[],"x":"{}"}}"#, "a".repeat(40 << 20)),
        format!(r#"{{"packs":[{nulls}null]}}"#),
        format!(r#"{{"packs":[],"supersedes":[{ids}null]}}"#),
    ] {
        repository.unpacked("index", &[&[2][..], &frame::plain(json.as_bytes())].concat());
        let fields = format!(r#""time":"2026-01-01T00:00:00Z","tree":"{}","paths":["/x"]"#, id(b"x"));
        let snapshot = format!(r#"{{{fields},"tags":{json}}}"#);
        repository.unpacked("snapshots", &[&[2][..], &frame::plain(snapshot.as_bytes())].concat());
    }
    let (entries, _, peak) = peak(repository);
    assert_eq!(entries, 5);
    assert!(peak < 500, "{peak} MiB");
}
