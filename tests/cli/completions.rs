//! `backupfs completions`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::machine::{backupfs, succeed};

#[test]
fn bash_reads_its_completions_and_they_know_every_verb() {
    let script = succeed(backupfs().args(["completions", "bash"]));
    for verb in ["mount", "umount", "snapshots", "ls", "versions", "status", "check", "demo"] {
        assert!(script.contains(verb), "{verb}");
    }
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn every_common_shell_has_some() {
    for shell in ["zsh", "fish"] {
        assert!(succeed(backupfs().args(["completions", shell])).contains("versions"), "{shell}");
    }
}
