//! SFTP: servers that go, refuse, or lie.

use std::path::Path;
use std::time::Duration;

use backupfs::error::{Again, Kind};
use backupfs::store::ObjectStore;
use backupfs::store::program::Program;
use backupfs::store::sftp::{Host, Sftp, ssh};

use crate::harness::child::has;
use crate::harness::sshd::Sshd;
use crate::machine::wait_for;
use crate::seen;

fn over_ssh(sshd: &Sshd, root: &Path) -> Sftp {
    let user = Sshd::user();
    let host = Host { user: Some(&user), host: "127.0.0.1", port: Some(sshd.port), ..Host::default() };
    let program = ssh(&host, vec![("PATH".into(), sshd.path().into())]);
    Sftp::new(program, root.to_str().unwrap(), "sftp:test")
}

fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config"), "content").unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_broke_is_made_again() {
    if !has("sshd") {
        return;
    }
    let (dir, mut sshd) = (repository(), Sshd::start("internal-sftp"));
    let store = over_ssh(&sshd, dir.path());
    let many = futures_util::future::join_all((0..50).map(|_| store.get("config", 99))).await;
    assert!(many.into_iter().all(|read| read.unwrap() == "content"));
    let session = sshd.sessions();
    assert!(!session.is_empty());
    sshd.end_sessions();
    wait_for("the session to end", || sshd.sessions().iter().all(|pid| !session.contains(pid)));
    // The call that finds it broken may fail.
    let again = store.get("config", 99).await;
    assert!(again.is_ok() || seen(again).1 == Again::Soon);
    assert_eq!(store.get("config", 99).await.unwrap(), "content");
    sshd.stop();
    let gone = futures_util::future::join_all((0..20).map(|_| store.get("config", 99))).await;
    assert!(gone.into_iter().all(|read| seen(read) == (Kind::Unavailable, Again::Soon)));
    let told = store.get("config", 99).await.unwrap_err().to_string();
    assert!(told.contains("Connection refused"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_ends_with_its_store() {
    if !has("sshd") {
        return;
    }
    let (dir, sshd) = (repository(), Sshd::start("internal-sftp"));
    let store = over_ssh(&sshd, dir.path());
    store.stat("config").await.unwrap();
    assert!(!sshd.sessions().is_empty());
    drop(store);
    wait_for("the session to end", || sshd.sessions().is_empty());
}

#[tokio::test]
async fn strangers_are_not_talked_to() {
    if !has("sshd") {
        return;
    }
    let (dir, sshd) = (repository(), Sshd::start("internal-sftp"));
    std::fs::write(sshd.file("known_hosts"), "").unwrap();
    let error = over_ssh(&sshd, dir.path()).stat("config").await.unwrap_err();
    assert_eq!((error.kind(), error.again()), (Kind::Denied, Again::Never));
    assert!(error.to_string().contains("Host key verification failed"), "{error}");
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_refused() {
    if !has("sshd") {
        return;
    }
    let (dir, sshd) = (repository(), Sshd::start("internal-sftp"));
    std::fs::copy(sshd.file("host"), sshd.file("user")).unwrap();
    let error = over_ssh(&sshd, dir.path()).stat("config").await.unwrap_err();
    assert_eq!((error.kind(), error.again()), (Kind::Denied, Again::Never));
    assert!(error.to_string().contains("Permission denied"), "{error}");
}

#[tokio::test]
async fn a_server_that_only_reads_and_shows_one_directory_is_enough() {
    if !has("sshd") {
        return;
    }
    let (dir, sshd) = (repository(), Sshd::start("internal-sftp -R"));
    assert_eq!(over_ssh(&sshd, dir.path()).get("config", 99).await.unwrap(), "content");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_no_empty_repository() {
    if !has("sshd") {
        return;
    }
    let (dir, sshd) = (repository(), Sshd::start("internal-sftp"));
    let store = over_ssh(&sshd, &dir.path().join("absent"));
    assert_eq!(seen(store.list("").await).0, Kind::Unavailable);
    assert_eq!(seen(store.list("keys/").await).0, Kind::Unavailable);
    assert_eq!(seen(store.stat("config").await).0, Kind::Unavailable);
    assert_eq!(seen(store.get_range("data/aa/aab", 0, 5).await).0, Kind::Unavailable);
}

/// The server's program on a pipe.
fn beside(root: &Path) -> Sftp {
    let name = "/usr/lib/openssh/sftp-server".into();
    let program = Program { name, arguments: Vec::new(), environment: Vec::new() };
    Sftp::new(program, root.to_str().unwrap(), "sftp:test")
}

#[tokio::test]
async fn links_are_followed_once_and_only_files_are_objects() {
    if !has("sshd") {
        return;
    }
    use std::os::unix::fs::symlink;
    let (dir, elsewhere) = (repository(), tempfile::tempdir().unwrap());
    let other = elsewhere.path();
    std::fs::create_dir_all(other.join("real/ab")).unwrap();
    std::fs::write(other.join("real/ab/abc"), "0123456789").unwrap();
    symlink("abc", other.join("real/ab/abd")).unwrap();
    symlink("..", other.join("real/loop")).unwrap();
    symlink("nowhere", other.join("real/dead")).unwrap();
    symlink(other.join("real"), dir.path().join("data")).unwrap();
    let status = std::process::Command::new("mkfifo").arg(other.join("real/pipe")).status().unwrap();
    assert!(status.success());
    let store = beside(dir.path());
    let mut keys: Vec<_> = store.list("").await.unwrap().into_iter().map(|o| (o.key, o.size)).collect();
    keys.sort();
    assert_eq!(keys, [("config".into(), 7), ("data/ab/abc".into(), 10), ("data/ab/abd".into(), 10)]);
    assert_eq!(store.get_range("data/ab/abd", 3, 4).await.unwrap(), "3456");
}

#[tokio::test]
async fn the_newest_object_tells_when_it_was_written() {
    if !has("sshd") {
        return;
    }
    let dir = repository();
    let written = |seconds| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    std::fs::create_dir_all(dir.path().join("snapshots/ab")).unwrap();
    for (name, at) in [("a", 1_000), ("ab/abc", 3_000_000_000), ("c", 2_000)] {
        let file = std::fs::File::create(dir.path().join("snapshots").join(name)).unwrap();
        file.set_modified(written(at)).unwrap();
    }
    let store = beside(dir.path());
    assert_eq!(store.newest("snapshots/").await.unwrap(), Some(written(3_000_000_000)));
    assert_eq!(store.newest("snapshots/x/").await.unwrap(), None);
    assert_eq!(store.newest("keys/").await.unwrap(), None);
}

#[tokio::test]
async fn a_large_directory_is_listed_whole() {
    if !has("sshd") {
        return;
    }
    let dir = repository();
    std::fs::create_dir(dir.path().join("index")).unwrap();
    for n in 0..3000 {
        std::fs::write(dir.path().join(format!("index/{n}")), "").unwrap();
    }
    assert_eq!(beside(dir.path()).list("index/").await.unwrap().len(), 3000);
}

#[tokio::test]
async fn long_ranges_arrive_whole_and_in_order() {
    if !has("sshd") {
        return;
    }
    let dir = repository();
    let content: Vec<u8> = (0..20_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::create_dir_all(dir.path().join("data/aa")).unwrap();
    std::fs::write(dir.path().join("data/aa/aab"), &content).unwrap();
    let store = beside(dir.path());
    assert!(store.get_range("data/aa/aab", 0, 20_000_000).await.unwrap() == content);
    assert!(store.get("data/aa/aab", 1 << 30).await.unwrap() == content);
    assert!(
        store.get_range("data/aa/aab", 1_234_567, 7_654_321).await.unwrap() == content[1_234_567..8_888_888]
    );
    assert!(store.pace().bandwidth > 0);
}

/// A server in Python that knows one file of ten bytes, and misbehaves as its argument says.
const LIAR: &str = r#"
import struct, sys
how, out = sys.argv[1], sys.stdout.buffer
def send(kind, id, body):
    packet = bytes([kind]) + struct.pack('>I', id) + body
    out.write(struct.pack('>I', len(packet)) + packet)
    out.flush()
def text(b): return struct.pack('>I', len(b)) + b
def status(id, code): send(101, id, struct.pack('>I', code) + text(b'') + text(b''))
attributes = struct.pack('>IQI', 5, 10, 0o100644)
def read(n):
    data = sys.stdin.buffer.read(n)
    if len(data) < n: sys.exit()
    return data
opened, answered = 0, 0
while True:
    packet = read(struct.unpack('>I', read(4))[0])
    kind, (id,) = packet[0], struct.unpack('>I', packet[1:5])
    if kind == 1:
        if how == 'mute': pass
        elif how == 'banner':
            out.write(b'Welcome to this server!\n'); out.flush()
        elif how == 'version':
            out.write(struct.pack('>IBI', 5, 2, 2)); out.flush()
        else:
            out.write(struct.pack('>IBI', 5, 2, 3)); out.flush()
    elif how == 'strange': send(101, id + 1000, struct.pack('>I', 0))
    elif how == 'huge': out.write(struct.pack('>I', 0x7fffffff) + b'x' * 100000); out.flush()
    elif how == 'garbage': send(99, id, b'x')
    elif how == 'end': sys.exit('going away')
    elif how == 'deaf' and answered: pass
    elif kind == 3 or kind == 11:
        opened += 1
        send(102, id, text(b'h'))
    elif kind == 4:
        opened -= 1
        status(id, 0)
    elif kind == 17 and how == 'handles': send(105, id, struct.pack('>IQI', 5, opened, 0o100644))
    elif kind in (8, 17):
        answered += 1
        send(105, id, attributes)
    elif kind == 12:
        if how == 'endless': send(104, id, struct.pack('>I', 10000) + (text(b'x') + text(b'') + attributes) * 10000)
        elif how == 'empty': send(104, id, struct.pack('>I', 0))
        else: status(id, 1)
    elif kind == 5:
        handle = struct.unpack('>I', packet[5:9])[0]
        offset, length = struct.unpack('>QI', packet[9 + handle:])
        data = b'0123456789'[offset:offset + length]
        if how == 'short': data = data[:3]
        if how == 'long': data = b'0123456789' * 10
        if how == 'lost': data = data[:0]
        if data: send(103, id, text(data))
        elif how == 'lost': send(103, id, text(b''))
        else: status(id, 1)
"#;

fn liar(how: &str) -> Sftp {
    let program = Program {
        name: "python3".into(),
        arguments: vec!["-c".into(), LIAR.into(), how.into()],
        environment: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
    };
    Sftp::new(program, "/", "sftp:test")
}

#[tokio::test]
async fn short_answers_are_put_together() {
    let store = liar("short");
    assert_eq!(store.get("config", 99).await.unwrap(), "0123456789");
    assert_eq!(store.get_range("config", 1, 8).await.unwrap(), "12345678");
}

#[tokio::test]
async fn what_no_server_says_ends_the_conversation() {
    for (how, says) in [
        ("banner", "does not speak SFTP"),
        ("version", "does not speak version 3"),
        ("strange", "answered what was not asked"),
        ("huge", "a reply longer than any"),
        ("garbage", "a malformed reply"),
        ("end", "going away"),
    ] {
        let error = liar(how).stat("config").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{how}: {error}");
        assert!(error.to_string().contains(says), "{how}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let store = liar("deaf");
    store.stat("config").await.unwrap();
    // From here on time passes as soon as there is nothing but to wait.
    tokio::time::pause();
    let error = store.stat("config").await.unwrap_err();
    assert_eq!((error.kind(), error.again()), (Kind::Unavailable, Again::Soon));
    assert!(error.to_string().contains("fell silent"), "{error}");
    tokio::time::resume();
    store.stat("config").await.unwrap();
    tokio::time::pause();
    assert_eq!(seen(liar("mute").stat("config").await), (Kind::TimedOut, Again::Soon));
}

#[tokio::test]
async fn what_is_abandoned_is_closed() {
    let store = liar("handles");
    for n in 0..50u64 {
        let call = store.get_range("config", 0, 5);
        // Given up at different moments: before and after the server opened the file, and while it reads.
        let _ = tokio::time::timeout(Duration::from_micros(n * 40), call).await;
    }
    let closed = async {
        while store.stat("config").await.unwrap().size != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("files stay open");
}

#[tokio::test]
async fn more_or_fewer_bytes_than_the_file_has_are_an_error() {
    assert_eq!(seen(liar("long").get_range("config", 0, 5).await).0, Kind::Corrupt);
    assert_eq!(seen(liar("long").get("config", 99).await).0, Kind::Corrupt);
    assert_eq!(seen(liar("lost").get_range("config", 0, 5).await).0, Kind::Corrupt);
    assert_eq!(seen(liar("lost").get("config", 99).await).0, Kind::Corrupt);
}

#[tokio::test]
async fn a_listing_without_end_is_given_up() {
    for how in ["endless", "empty"] {
        let (kind, _) = seen(liar(how).list("keys/").await);
        assert_eq!(kind, Kind::Unsupported, "{how}");
    }
}
