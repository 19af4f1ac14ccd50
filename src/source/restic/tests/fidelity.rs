//! What is shown is what was saved.

use std::ops::ControlFlow;

use super::*;
use proptest::prelude::*;

/// Host, path, number by time, name of the manifest.
const CONTENTS: [(&str, &str, usize, &str); 10] = [
    ("alpha", "/srv/data", 0, "alpha-1"),
    ("alpha", "/srv/data", 1, "alpha-2"),
    ("beta", "/home/bob", 0, "beta-home-bob"),
    ("beta", "/opt/app", 0, "beta-opt-app"),
    ("gamma", "/home/bob", 0, "gamma-home-bob"),
    ("gamma", "/opt/app", 0, "gamma-opt-app"),
    ("delta@example.org", "/home/bob", 0, "gamma-home-bob"),
    ("delta@example.org", "/opt/app", 0, "gamma-opt-app"),
    ("delta@example.org", "/srv/data/docs", 0, "delta-srv-data-docs"),
    ("beta", "/home/bob/a+b", 0, "beta-a+b"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_snapshot_is_what_was_saved() {
    for name in ["restic-v1", "restic-v2"] {
        let (_, source) = opened(name).await;
        assert_eq!(source.snapshots().len(), 10);
        for (host, path, nth, which) in CONTENTS {
            let snapshot = snapshot(&source, host, path, nth);
            let opened = open_path(&source, &snapshot, path).await;
            let mut wanted = expected(name, which);
            let mut found = manifest(&opened.node).await;
            if which.starts_with("beta-a+b") {
                // Two snapshots of one second: which is which is told by their content.
                if found != wanted {
                    wanted = expected(name, "beta-a+b-second");
                }
            }
            if which == "gamma-home-bob" && host.starts_with("delta") {
                // The links of this set within this snapshot are what its own manifest says.
                found.values_mut().for_each(|row| drop(row.as_object_mut().unwrap().remove("linked_with")));
                wanted.values_mut().for_each(|row| drop(row.as_object_mut().unwrap().remove("linked_with")));
            }
            assert_same(&found, &wanted, &format!("{name} {which}"));
        }
        let health = source.health();
        assert_eq!((health.omitted, health.error.is_none()), (0, true));
        assert!(health.listed.is_some() && health.usage.bytes > 1_000_000 && health.usage.objects > 600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_single_files_are_files() {
    for name in ["restic-v1", "restic-v2"] {
        let (_, source) = opened(name).await;
        for (path, file) in [("/db/dump.sql", &b"dump.sql"[..]), ("/home/bob/notes.txt", b"notes.txt")] {
            let snapshot = snapshot(&source, "gamma", path, 0);
            let opened = open_path(&source, &snapshot, path).await;
            assert_eq!((opened.node.meta.kind, &*opened.name), (FileType::File, file));
            let bytes = contents(&opened.node).await.unwrap();
            assert_eq!(bytes.len() as u64, opened.node.meta.size);
            assert!(!bytes.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_reads_its_tree_from_the_hot_half_and_its_content_from_the_cold_one() {
    let name = "rustic-hotcold";
    let (cold, hot) = (Watched::of(&fixture(name).join("repo")), Watched::of(&fixture(name).join("hot")));
    let mut spec = spec(name, &cold);
    spec.hot = Some(Arc::<Watched>::clone(&hot) as _);
    let source = open(spec, shared()).await.unwrap();
    let snapshot = snapshot(&source, "alpha", "/srv/data", 0);
    cold.take_asked("");
    let root = open_path(&source, &snapshot, "/srv/data").await.node;
    entries(&*dir(&root)).await;
    assert_eq!(cold.take_asked(""), Vec::<String>::new());
    assert!(!hot.take_asked("data/").is_empty());
    let found = manifest(&root).await;
    let (first, second) = (expected(name, "alpha-1"), expected(name, "alpha-2"));
    assert_same(&found, if found.len() == first.len() { &first } else { &second }, name);
    assert!(!cold.take_asked("data/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_files_of_two_snapshots_are_one_node_and_links_are_not() {
    let (_, source) = opened("restic-v2").await;
    let mut keys: Vec<HashMap<u128, Vec<String>>> = Vec::new();
    let mut paths: Vec<HashMap<String, (Node, u128)>> = Vec::new();
    for nth in [0, 1] {
        let snapshot = snapshot(&source, "alpha", "/srv/data", nth);
        let root = open_path(&source, &snapshot, "/srv/data").await.node;
        let mut todo = vec![(String::new(), root)];
        let (mut by_key, mut by_path) = (HashMap::<u128, Vec<String>>::new(), HashMap::new());
        while let Some((path, node)) = todo.pop() {
            for (name, node) in entries(&*dir(&node)).await {
                let path = format!("{path}/{}", printable(&name));
                match (node.meta.kind, node.meta.identity) {
                    (FileType::File, Identity::Key(key)) => {
                        by_key.entry(key).or_default().push(path.clone());
                        by_path.insert(path, (node, key));
                    }
                    (FileType::Dir, Identity::Path) => todo.push((path, node)),
                    (kind, identity) => assert!(identity == Identity::Path, "{kind:?}"),
                }
            }
        }
        for (key, group) in &by_key {
            assert!(group.len() == 1 || by_path[&group[0]].0.meta.nlink > 1, "{key}: {group:?}");
        }
        keys.push(by_key);
        paths.push(by_path);
    }
    let mut shared = 0;
    for (path, (old, key)) in &paths[0] {
        let Some((new, new_key)) = paths[1].get(path) else { continue };
        if old.meta.nlink > 1 {
            assert_ne!(key, new_key, "{path}: hard links are of one snapshot");
        } else if key == new_key {
            assert_eq!(old.meta, new.meta);
            shared += 1;
        }
    }
    assert!(shared > 600, "{shared} files are shared");
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_files_show_their_holes() {
    let (_, source) = opened("restic-v2").await;
    let snapshot = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &snapshot, "/srv/data").await.node;
    let mut todo = vec![root];
    let mut sparse = 0;
    while let Some(node) = todo.pop() {
        for (_, node) in entries(&*dir(&node)).await {
            match &node.content {
                Content::Dir(_) => todo.push(node),
                Content::File(file) if node.meta.blocks * 512 < node.meta.size => {
                    let reader = file.open().resolve().await.unwrap();
                    let bytes = contents(&node).await.unwrap();
                    let mut at = 0;
                    let mut data = 0;
                    while let Some(from) = reader.next_data(at).resolve().await.unwrap() {
                        let to = reader.next_hole(from).resolve().await.unwrap();
                        let hole = usize::try_from(at).unwrap()..usize::try_from(from).unwrap();
                        assert!(bytes[hole].iter().all(|byte| *byte == 0));
                        data += to - from;
                        at = to;
                        if at == node.meta.size {
                            break;
                        }
                    }
                    assert_eq!(data.div_ceil(512), node.meta.blocks);
                    sparse += 1;
                }
                _ => {}
            }
        }
    }
    assert!(sparse > 0, "the fixture holds sparse files");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn reads_at_any_offset_are_exact(reads in prop::collection::vec((any::<u64>(), 0usize..600_000), 12)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (_, source) = opened("restic-v2").await;
            let snapshot = snapshot(&source, "alpha", "/srv/data", 0);
            let mut largest: Option<Node> = None;
            let mut todo = vec![open_path(&source, &snapshot, "/srv/data").await.node];
            while let Some(node) = todo.pop() {
                for (_, node) in entries(&*dir(&node)).await {
                    match node.meta.kind {
                        FileType::Dir => todo.push(node),
                        FileType::File if largest.as_ref().is_none_or(|l| l.meta.blocks < node.meta.blocks) => {
                            largest = Some(node);
                        }
                        _ => {}
                    }
                }
            }
            let largest = largest.unwrap();
            let whole = contents(&largest).await.unwrap();
            let Content::File(file) = &largest.content else { panic!("a file") };
            let reader = file.open().resolve().await.unwrap();
            for (offset, len) in reads {
                let offset = usize::try_from(offset % (whole.len() as u64 + 100)).unwrap();
                let wanted = whole.get(offset..whole.len().min(offset + len)).unwrap_or_default();
                assert_eq!(reader.read_at(offset as u64, len).resolve().await.unwrap(), wanted);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lay_above_a_path_is_told_when_it_is_recorded() {
    let (_, source) = opened("restic-v2").await;
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let Ancestors::Recorded(above) = open_path(&source, &alpha, "/srv/data").await.ancestors else {
        panic!("they are recorded")
    };
    assert_eq!(above.len(), 1, "only /srv");
    assert_eq!((above[0].uid, above[0].gid, above[0].perm & 0o700), (0, 0, 0o700));
    let beta = snapshot(&source, "beta", "/home/bob/a+b", 0);
    let opened = open_path(&source, &beta, "/home/bob/a+b").await;
    let Ancestors::Recorded(above) = opened.ancestors else { panic!("they are recorded") };
    let told: Vec<_> = above.iter().map(|dir| (dir.uid, dir.perm)).collect();
    assert_eq!(told, [(0, 0o755), (1000, 0o700)]);
    assert_eq!((opened.node.meta.kind, &*opened.name), (FileType::Dir, &b"a+b"[..]));
    // Saved as a relative path, and as `.`.
    for path in ["/home/bob", "/opt/app"] {
        let gamma = snapshot(&source, "gamma", path, 0);
        assert_eq!(open_path(&source, &gamma, path).await.ancestors, Ancestors::Unknown, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_everything_is_still_read() {
    let store = Watched::of(&fixture("restic-v2").join("repo"));
    let source = open(spec("restic-v2", &store), Shared::new(Budget::of(0))).await.unwrap();
    let alpha = snapshot(&source, "alpha", "/srv/data", 1);
    let root = open_path(&source, &alpha, "/srv/data").await.node;
    assert_same(&manifest(&root).await, &expected("restic-v2", "alpha-2"), "no memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_announced_take_few_reads() {
    let (store, source) = opened("restic-v2").await;
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &alpha, "/srv/data").await.node;
    let many = dir(&root).lookup(b"many").resolve().await.unwrap().unwrap();
    let files = entries(&*dir(&many)).await;
    assert!(files.len() > 300);
    let listing = dir(&many).listing().resolve().await.unwrap();
    let mut positions = Vec::new();
    listing.visit(0, &mut |entry: &Entry<'_>| {
        positions.push(entry.at);
        ControlFlow::Continue(())
    });
    store.take_asked("");
    listing.will_read(&positions);
    for (_, node) in &files {
        contents(node).await.unwrap();
    }
    let reads = store.take_asked("data/").len();
    assert!(reads < files.len() / 50, "{reads} reads for {} files", files.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_file_only_the_beginning_is_announced() {
    let (store, source) = opened("restic-v2").await;
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &alpha, "/srv/data").await.node;
    let photos = dir(&root).lookup(b"photos").resolve().await.unwrap().unwrap();
    let listing = dir(&photos).listing().resolve().await.unwrap();
    let mut large = None;
    listing.visit(0, &mut |entry: &Entry<'_>| {
        large = (entry.name == b"big.raw").then_some(entry.at);
        if large.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let large = large.unwrap();
    let Content::File(file) = listing.node(large).unwrap().content else { panic!("a file") };
    let reader = file.open().resolve().await.unwrap();
    store.take_asked("");
    listing.will_read(&[large]);
    let mut announced = Vec::new();
    while announced.is_empty() {
        tokio::task::yield_now().await;
        announced.extend(store.take_asked("data/"));
    }
    reader.read_at(0, 4096).resolve().await.unwrap();
    assert_eq!(
        (announced.len(), store.take_asked("data/").len()),
        (1, 0),
        "it comes with what was announced"
    );
    reader.read_at(2_600_000, 1).resolve().await.unwrap();
    assert_eq!(store.take_asked("data/").len(), 1, "its end was not announced");
}
