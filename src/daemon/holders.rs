//! Who keeps a mount busy: found in `/proc` alone, because asking the mount itself could wait for ever.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// No process maps so many files that a longer table is worth reading.
const LONGEST_MAPS: u64 = 8 << 20;

/// A process that has something open below a mountpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// The name of its program.
    pub command: String,
    /// What it holds: its directory, its program, an open file.
    pub what: PathBuf,
}

/// The processes that hold something at or below `mountpoint`, this one left out. Those of other users are only visible
/// to root.
pub fn of(mountpoint: &Path) -> Vec<Holder> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut holders: Vec<Holder> = numbers
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let process = PathBuf::from(format!("/proc/{pid}"));
            let what = held(&process, mountpoint)?;
            let command = fs::read_to_string(process.join("comm")).unwrap_or_default().trim_end().to_owned();
            Some(Holder { pid, command, what })
        })
        .collect();
    holders.sort_by_key(|holder| holder.pid);
    holders
}

/// The first thing below `mountpoint` that the process holds.
fn held(process: &Path, mountpoint: &Path) -> Option<PathBuf> {
    let links = ["cwd", "root", "exe"].map(|name| process.join(name));
    let open =
        fs::read_dir(process.join("fd")).ok().into_iter().flatten().filter_map(|fd| Some(fd.ok()?.path()));
    let mut held = links.into_iter().chain(open).filter_map(|link| fs::read_link(link).ok());
    held.find(|path| path.starts_with(mountpoint)).or_else(|| mapped(&process.join("maps"), mountpoint))
}

/// The first file below `mountpoint` in a table of mapped files.
fn mapped(maps: &Path, mountpoint: &Path) -> Option<PathBuf> {
    let mut table = Vec::new();
    fs::File::open(maps).ok()?.take(LONGEST_MAPS).read_to_end(&mut table).ok()?;
    table.split(|byte| *byte == b'\n').find_map(|line| {
        let slash = line.iter().position(|byte| *byte == b'/')?;
        let path = Path::new(std::ffi::OsStr::from_bytes(line.get(slash..)?));
        path.starts_with(mountpoint).then(|| path.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Ends a process that a test started.
    struct Started(std::process::Child);

    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_shell_s_directory_and_an_open_file_are_found_with_their_process() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let file = root.join("file");
        fs::write(&file, "").unwrap();
        let mut sits = Command::new("cat");
        let sits = Started(sits.current_dir(&root).stdin(Stdio::piped()).spawn().unwrap());
        let mut reads = Command::new("cat");
        let reads = Started(
            reads
                .arg("-")
                .arg(&file)
                .stdin(Stdio::piped())
                .stdout(fs::File::create(&file).unwrap())
                .spawn()
                .unwrap(),
        );
        let holders = of(&root);
        let found = |child: &Started| holders.iter().find(|h| h.pid == child.0.id()).cloned();
        let expected = |child: &Started, what: &Path| {
            Some(Holder { pid: child.0.id(), command: "cat".into(), what: what.to_owned() })
        };
        assert_eq!(found(&sits), expected(&sits, &root));
        assert_eq!(found(&reads), expected(&reads, &file));
        assert!(of(&root.join("no-such")).is_empty());
    }

    #[test]
    fn mapped_files_are_found_by_whole_components() {
        let dir = tempfile::tempdir().unwrap();
        let maps = dir.path().join("maps");
        fs::write(
            &maps,
            "7f00-7f01 r--p 00000000 00:2a 77   /mnt/b2/x\n7f00-7f01 r--p 0 00:2a 78 /mnt/b/a b\n",
        )
        .unwrap();
        assert_eq!(mapped(&maps, Path::new("/mnt/b")), Some("/mnt/b/a b".into()));
        assert_eq!(mapped(&maps, Path::new("/mnt/b/c")), None);
    }
}
