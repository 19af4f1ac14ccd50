//! A repository whose store is slow, read through the kernel: readers that are killed meanwhile, and those that stay.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backupfs::cache::Budget;
use backupfs::source::chunked::Shared;
use backupfs::source::restic::{self, Spec};
use backupfs::tree::Node;
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::guard::{Mounted, mounted, options};
use crate::harness::faulty::{Fault, FaultyStore, Rule};
use crate::memory::pattern;
use crate::writer::{PASSWORD, Repository, node};

const FILES: usize = 4;
const BLOB: usize = 300_000;
const BLOBS: usize = 8;

/// Names and contents; blobs differ.
fn contents() -> Vec<(String, Bytes)> {
    let all = pattern(FILES * BLOBS * BLOB);
    (0..FILES).map(|i| (format!("file-{i}"), all.slice(i * BLOBS * BLOB..(i + 1) * BLOBS * BLOB))).collect()
}

/// A repository of these files, each in a pack of its own, behind a store that can be made to wait.
fn repository(runtime: &Runtime) -> (Arc<FaultyStore>, Node) {
    let mut repository = Repository::new(2);
    let mut nodes = Vec::new();
    for (name, content) in contents() {
        let ids: Vec<_> = content.chunks(BLOB).map(|blob| repository.data(blob)).collect();
        repository.flush();
        nodes.push(node::file(&name, &ids.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let tree = repository.tree(&nodes);
    repository.snapshot("/slow", &tree);
    let store = FaultyStore::new(repository.into_store());
    let spec = Spec {
        name: "slow".into(),
        store: store.clone(),
        hot: None,
        drawer: None,
        password: PASSWORD.as_bytes().into(),
        key_hint: None,
    };
    let opening = async {
        let source = restic::open(spec, Shared::new(Budget::of(16 << 20))).await.unwrap();
        let snapshot = source.snapshots()[0].clone();
        source.open(&snapshot.id, 0).resolve().await.unwrap().node
    };
    let root = runtime.block_on(opening);
    (store, root)
}

/// It, mounted; dropped in this order.
struct Slow {
    mount: Mounted,
    store: Arc<FaultyStore>,
    // What the source fetches is fetched here.
    _runtime: Runtime,
}

/// Mounts it, with every file's attributes known and no content read.
fn slow() -> Option<Slow> {
    let runtime = Runtime::new().unwrap();
    let (store, root) = repository(&runtime);
    let mount = mounted(root, options())?;
    mount.sh("ls -l");
    Some(Slow { mount, store, _runtime: runtime })
}

fn cat(path: &Path) -> Child {
    Command::new("cat").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills it; a reader that the kernel does not let go is not gone before its request is.
fn kill(mut reader: Child) {
    reader.kill().unwrap();
    reader.wait().unwrap();
}

#[test]
fn who_is_killed_while_the_store_is_slow_leaves_no_read_behind() {
    let Some(Slow { mount, store, _runtime }) = slow() else { return };
    let go = Arc::new(Notify::new());
    let waits = store.add(Rule::new(Fault::Wait(go.clone())).keys("data/"));
    let readers: Vec<_> = contents().iter().map(|(name, _)| cat(&mount.path(name))).collect();
    wait_for("every reader is being waited for", || waits.hits() >= FILES as u64);
    readers.into_iter().for_each(kill);
    store.heal();
    drop(waits);
    // Each read under way holds what it waits for; this test holds the last.
    wait_for("reads that nobody wants have ended", || {
        go.notify_waiters();
        Arc::strong_count(&go) == 1
    });
    for (name, content) in contents() {
        assert!(std::fs::read(mount.path(&name)).unwrap() == content, "{name} afterwards");
    }
    mount.end();
}

#[test]
fn who_stays_gets_what_was_fetched_for_the_killed() {
    let Some(Slow { mount, store, _runtime }) = slow() else { return };
    let go = Arc::new(Notify::new());
    let waits = store.add(Rule::new(Fault::Wait(go.clone())).keys("data/"));
    let killed: Vec<_> = (0..4).map(|_| cat(&mount.path("file-1"))).collect();
    wait_for("the first is being waited for", || waits.hits() > 0);
    std::thread::scope(|scope| {
        let staying: Vec<_> =
            (0..4).map(|_| scope.spawn(|| std::fs::read(mount.path("file-1")).unwrap())).collect();
        std::thread::sleep(Duration::from_millis(50));
        killed.into_iter().for_each(kill);
        store.heal();
        wait_for("the store has answered everybody", || {
            go.notify_waiters();
            staying.iter().all(|reader| reader.is_finished())
        });
        let content = &contents()[1].1;
        for reader in staying {
            assert!(reader.join().unwrap() == *content, "a reader that stayed");
        }
    });
    mount.end();
}

#[test]
fn sixty_four_readers_read_what_was_saved_while_the_cache_is_too_small() {
    let Some(Slow { mount, _runtime, .. }) = slow() else { return };
    let contents = contents();
    std::thread::scope(|scope| {
        for reader in 0..64_usize {
            let (mount, contents) = (&mount, &contents);
            scope.spawn(move || {
                use std::os::unix::fs::FileExt;
                // Half of them share a file. The steps are coprime to what they walk through.
                let (name, content) = &contents[if reader % 2 == 0 { 0 } else { reader % FILES }];
                let file = std::fs::File::open(mount.path(name)).unwrap();
                let mut buffer = vec![0; 100_001];
                for step in 0..60 {
                    let at = (reader * 7_919_137 + step * 1_299_709) % content.len();
                    let len = buffer.len().min(content.len() - at);
                    file.read_exact_at(&mut buffer[..len], at as u64).unwrap();
                    assert!(buffer[..len] == content[at..at + len], "{name} at {at}");
                }
            });
        }
    });
    mount.end();
}
