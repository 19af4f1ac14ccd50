//! Mounting a repository with an empty and with a warm cache.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine::{self, Mountpoint};
use crate::seconds;
use crate::writer::PASSWORD;

/// Mounts of a warm cache.
const ROUNDS: usize = 5;

/// Prints a line for each mount.
pub fn table(repository: &Path, cache: &Path) {
    println!("| cache | mount | first ls | RSS | peak RSS | settled after |");
    println!("|---|---|---|---|---|---|");
    mount("empty", repository, cache);
    for _ in 0..ROUNDS {
        mount("warm", repository, cache);
    }
    mount("none", repository, Path::new("none"));
    println!();
}

fn mount(what: &str, repository: &Path, cache: &Path) {
    let mountpoint = Mountpoint::new();
    let password = mountpoint.beside("password");
    fs::write(&password, PASSWORD).unwrap();
    let mut command = machine::backupfs();
    command.arg("mount").arg("-r").arg(repository).arg("--password-file").arg(&password);
    command
        .arg("-o")
        .arg(format!("cache-dir={},mount-timeout=10min", cache.display()))
        .arg(mountpoint.path());
    let started = Instant::now();
    machine::succeed(&mut command);
    let mounted = seconds(started);
    let listed = fs::read_dir(mountpoint.path().join("hostile@+small/latest")).unwrap().count();
    let first_ls = seconds(started);
    assert_eq!(listed, 100);
    let [server] = mountpoint.servers()[..] else { panic!("{:?}", mountpoint.servers()) };
    while is_tended(server) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let settled = seconds(started);
    let (now, peak) = (memory(server, "VmRSS"), memory(server, "VmHWM"));
    println!("| {what} | {mounted:.3} s | {first_ls:.3} s | {now} MiB | {peak} MiB | {settled:.1} s |");
    machine::succeed(machine::backupfs().arg("umount").arg(mountpoint.path()));
    mountpoint.wait_until_gone();
}

/// Whether the thread that writes and merges segments is at work.
fn is_tended(server: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{server}/task")).unwrap();
    let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
    threads.filter_map(Result::ok).any(|thread| name(thread) == "index\n")
}

fn memory(pid: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
