//! All scenes once more through a real mount: what the kernel makes of them.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};

use crate::machine::{Mountpoint, backupfs, can_mount, run, succeed};
use crate::scene::Shown;
use crate::writer::{PASSWORD, Repository};
use crate::{shapes, whole};

/// Memory of the server that is not content: code, threads, buffers. With the `memory` option it is the bound.
const BESIDES: u64 = 400;

#[test]
fn everything_at_once() {
    if !can_mount() {
        return;
    }
    let mut repository = Repository::new(2);
    let mut scenes = whole::scenes();
    scenes.push(shapes::wide);
    let scripts: Vec<_> = scenes.iter().map(|scene| scene(&mut repository)).collect();
    let mountpoint = Mountpoint::new();
    let (directory, password, log) =
        (mountpoint.beside("repository"), mountpoint.beside("password"), mountpoint.beside("log"));
    repository.write(&directory);
    fs::write(&password, PASSWORD).unwrap();
    let mut mount = backupfs();
    mount.arg("mount").arg(mountpoint.path()).arg("-r").arg(&directory).arg("--password-file").arg(&password);
    succeed(mount.arg("-o").arg(format!("memory=64M,log={}", log.display())));

    for script in &scripts {
        let set = format!("hostile@+{}/latest", script.path.trim_start_matches('/'));
        script.check(&shown(&mountpoint.path().join(set)));
    }
    let server = mountpoint.servers()[0];
    let peak = peak_of(server);
    assert!(peak < 64 + BESIDES, "the server took {peak} MiB");
    let lines = fs::read_to_string(&log).unwrap();
    assert!(!lines.contains("panic"), "{}", lines.lines().find(|line| line.contains("panic")).unwrap());
    assert!(!lines.contains(|c: char| c.is_control() && c != '\n'), "a control character in the log");
    let (code, said) = run(backupfs().arg("umount").arg(mountpoint.path()));
    assert_eq!(code, 0, "{said}");
    mountpoint.wait_until_gone();
}

/// The peak of a process, in MiB.
fn peak_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() >> 10
}

/// Everything below a directory, by way of descriptors: paths of 3,000 levels are too long for the kernel.
fn shown(root: &Path) -> Shown {
    let mut shown = Shown::new();
    let directory = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut open = vec![(Vec::new(), Ok(directory))];
    while let Some((path, directory)) = open.pop() {
        let listed = directory.and_then(|directory| list(&path, &directory, &mut shown, &mut open));
        let listed = listed.map(|()| Bytes::new()).map_err(|error| honest(&path, error));
        shown.insert(path, listed);
    }
    shown
}

type Opened = rustix::io::Result<OwnedFd>;

fn list(
    path: &[u8],
    directory: &OwnedFd,
    shown: &mut Shown,
    open: &mut Vec<(Vec<u8>, Opened)>,
) -> rustix::io::Result<()> {
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        let path =
            if path.is_empty() { name.to_bytes().to_vec() } else { [path, b"/", name.to_bytes()].concat() };
        let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)
            .unwrap_or_else(|error| panic!("{}: listed, and then {error}", path.escape_ascii()));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                open.push((path, rustix::fs::openat(directory, &name, flags, Mode::empty())));
            }
            FileType::RegularFile => {
                let content = read(directory, &name).map_err(|error| honest(&path, error));
                let short = content
                    .as_ref()
                    .is_ok_and(|content| u64::try_from(stat.st_size) != Ok(content.len() as u64));
                assert!(!short, "{}: shorter than its size", path.escape_ascii());
                shown.insert(path, content);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, &name, Vec::new());
                let target = target.map(|target| Bytes::from(target.into_bytes()));
                shown.insert(path.clone(), target.map_err(|error| honest(&path, error)));
            }
            _ => drop(shown.insert(path, Ok(Bytes::new()))),
        }
    }
    Ok(())
}

fn read(directory: impl AsFd, name: &CString) -> rustix::io::Result<Bytes> {
    let file = rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())?;
    // Not by `read_to_end`, which takes memory for the size that it is told.
    let (mut content, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match rustix::io::read(&file, &mut buffer)? {
            0 => return Ok(content.into()),
            read => content.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Damage is an I/O error: whatever else a tool is told it may take for an answer.
fn honest(path: &[u8], error: rustix::io::Errno) -> String {
    assert_eq!(error, rustix::io::Errno::IO, "{}", path.escape_ascii());
    error.to_string()
}
