//! `backupfs verify` on a repository that restic wrote, sound and damaged.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::machine::signal;
use crate::sample::Sample;

/// `backupfs verify` with its progress in a cache of its own.
fn verify(sample: &Sample, cache: &Path) -> Command {
    let mut command = sample.command("verify");
    command.arg("-o").arg(format!("cache-dir={}", cache.display())).arg("--json");
    command
}

/// Runs it: the exit code and what was found of the only source.
fn found(command: &mut Command) -> (i32, Value) {
    let output = command.output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), told["sources"][0].clone())
}

fn packs(sample: &Sample) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(sample.repository().join("data")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().path());
    let files =
        folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    let mut packs: Vec<PathBuf> = files.collect();
    packs.sort();
    packs
}

fn cache() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_sound_repository_is_sound_in_whole_and_in_parts() {
    let (sample, cache) = (Sample::new(), cache());
    let (code, all) = found(&mut verify(&sample, &cache.path().join("c")));
    assert_eq!(code, 0, "{all}");
    assert_eq!(
        (&all["complete"], &all["snapshots"], &all["damaged"]),
        (&true.into(), &7.into(), &Value::Array(vec![]))
    );
    let files = all["files"].as_u64().unwrap();
    assert!(files > 10 && all["bytes"].as_u64().unwrap() > 0);
    let (code, part) = found(verify(&sample, &cache.path().join("c")).args(["--sample", "1/2"]));
    assert_eq!(code, 0);
    let of_part = part["files"].as_u64().unwrap();
    assert!(of_part > 0 && of_part < files, "{of_part} of {files}");
    assert_eq!(part["directories"], all["directories"]);
}

#[test]
fn a_flipped_byte_and_a_missing_pack_are_found_wherever_they_are() {
    let names: Vec<PathBuf> = packs(&Sample::new());
    assert!(!names.is_empty());
    let mut files = 0;
    for (number, removed) in (0..names.len()).zip([false, true].into_iter().cycle()) {
        let (sample, cache) = (Sample::new(), cache());
        let pack = packs(&sample).remove(number);
        if removed {
            std::fs::remove_file(&pack).unwrap();
        } else {
            let mut bytes = std::fs::read(&pack).unwrap();
            bytes[20] ^= 1;
            let mut permissions = pack.metadata().unwrap().permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
            std::fs::set_permissions(&pack, permissions).unwrap();
            std::fs::write(&pack, bytes).unwrap();
        }
        let (code, told) = found(&mut verify(&sample, &cache.path().join("c")));
        assert_eq!(code, 32, "{} removed: {removed}: {told}", pack.display());
        let id = pack.file_name().unwrap().to_str().unwrap();
        for damaged in told["damaged"].as_array().unwrap() {
            let text = |key: &str| damaged[key].as_str().unwrap().to_owned();
            assert_eq!(text("pack"), id);
            assert_eq!((text("snapshot").len(), text("blob").len()), (64, 64));
            assert!(text("path").starts_with('/') && text("error").contains(id), "{damaged}");
            files += usize::from(text("error").contains("data blob"));
        }
        assert!(!told["damaged"].as_array().unwrap().is_empty(), "{told}");
        assert_eq!(told["complete"], true);
    }
    assert!(files > 0, "content was damaged, too");
}

#[test]
fn an_interrupted_run_is_gone_on_with() {
    let (sample, cache) = (Sample::new(), cache());
    let dir = cache.path().join("c");
    // A byte a second: it waits for hours after the first blob.
    let mut slow =
        verify(&sample, &dir).args(["--rate", "1"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let begun = || {
        let states = std::fs::read_dir(dir.join("verify")).into_iter().flatten().flatten();
        states
            .map(|state| state.path())
            .any(|state| std::fs::read_to_string(state).unwrap().starts_with("day "))
    };
    crate::machine::wait_for("it to begin", begun);
    let second =
        sample.command("verify").arg("-o").arg(format!("cache-dir={}", dir.display())).output().unwrap();
    assert_eq!(second.status.code(), Some(32));
    assert!(
        String::from_utf8_lossy(&second.stdout)
            .contains("another `backupfs verify` is reading this repository")
    );
    signal(slow.id(), "INT");
    assert_eq!(slow.wait().unwrap().code(), Some(8));
    let (code, rest) = found(&mut verify(&sample, &dir));
    assert_eq!((code, &rest["resumed"], &rest["complete"]), (0, &true.into(), &true.into()), "{rest}");
    let (_, anew) = found(&mut verify(&sample, &dir));
    assert_eq!(anew["resumed"], false);
}

#[test]
fn what_is_typed_wrong_is_said() {
    let sample = Sample::new();
    for (arguments, says) in [
        (&["--sample", "30"][..], "--sample: \"30\" must be a share such as 1/30"),
        (&["--rate", "0"], "--rate: must be more than nothing"),
        (&["nothing"], "no source is called \"nothing\""),
    ] {
        let output = sample.command("verify").args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && stderr.contains(says), "{stderr}");
    }
}
