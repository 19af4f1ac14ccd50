//! No test file is forgotten: what nobody runs is not there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::rust::modules;
use crate::{files, root, text};

/// Adds `file` and every module below it to `reached`.
fn follow(file: &Path, reached: &mut BTreeSet<PathBuf>) {
    if !reached.insert(file.to_owned()) {
        return;
    }
    let folder = file.parent().unwrap();
    let own = file.file_stem().unwrap();
    let below = if own == "mod" || own == "main" || folder == Path::new("tests") {
        folder.to_owned()
    } else {
        folder.join(own)
    };
    for module in modules(&text(file)) {
        let candidates = match &module.path {
            Some(path) => vec![normal(&folder.join(path))],
            None => {
                vec![below.join(&module.name).with_extension("rs"), below.join(&module.name).join("mod.rs")]
            }
        };
        let found = candidates.iter().find(|path| root().join(path).is_file());
        follow(
            found.unwrap_or_else(|| panic!("{}: mod {} has no file", file.display(), module.name)),
            reached,
        );
    }
}

/// `a/b/../c` as `a/c`.
fn normal(path: &Path) -> PathBuf {
    path.iter().fold(PathBuf::new(), |mut path, part| {
        if part == ".." {
            path.pop();
        } else {
            path.push(part);
        }
        path
    })
}

#[test]
fn every_rust_file_below_tests_belongs_to_a_target() {
    let all = files("tests", ".rs");
    let is_target = |file: &Path| match file.iter().count() {
        2 => true,
        3 => file.ends_with("main.rs"),
        _ => false,
    };
    let mut reached = BTreeSet::new();
    all.iter().filter(|file| is_target(file)).for_each(|target| follow(target, &mut reached));
    let forgotten: Vec<_> = all.iter().filter(|file| !reached.contains(*file)).collect();
    assert!(forgotten.is_empty(), "no target reaches {forgotten:?}");
}

#[test]
fn only_what_another_test_runs_is_ignored() {
    let mark = ["#[", "ignore"].concat();
    for file in files("tests", ".rs").into_iter().chain(files("src", ".rs")) {
        let text = text(&file);
        let unrun = text.lines().find(|line| line.contains(&mark) && !line.contains("by the test above"));
        assert_eq!(unrun, None, "{}", file.display());
    }
}

#[test]
fn every_suite_of_programs_is_run() {
    let runner = text(Path::new("tests/run"));
    for suite in files("tests", "/run").into_iter().filter(|file| file.iter().count() == 3) {
        assert!(runner.contains(suite.to_str().unwrap()), "tests/run does not call {}", suite.display());
    }
}
