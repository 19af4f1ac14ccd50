//! The least that docs/servers.md gives each server to allow: it is enough to read, and nothing can be written.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use backupfs::store::ObjectStore;
use backupfs::store::rest::{Rest, Server, Settings, Trust};
use backupfs::store::sftp::{Host, Sftp, ssh};

use crate::harness::child::has;
use crate::harness::rclone::Rclone;
use crate::harness::sshd::Sshd;

fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.path().join("config"), "content").unwrap();
    dir
}

/// What a server answers to a request without a body.
fn status(address: &str, request: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_rest_server_that_may_only_read() {
    if !has("rclone") || !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = repository();
    let server = Rclone::serve_as_nobody(dir.path(), &["--append-only"]);
    let store = Rest::new(Settings {
        server: Server::Web { authority: server.address.clone(), tls: false },
        path: "/".into(),
        login: None,
        trust: Trust::default(),
        name: "rest:test".into(),
    });
    assert_eq!(store.unwrap().get("config", 99).await.unwrap(), "content");
    for request in ["DELETE /config", "POST /config", "POST /snapshots/aa", "POST /data/aabb"] {
        let status = status(&server.address, request);
        assert!(status >= 400, "{request}: {status}");
    }
    assert_eq!(fs::read(dir.path().join("config")).unwrap(), b"content");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn an_ssh_server_that_allows_reading_only() {
    if !has("sshd") {
        return;
    }
    let key_line = |sshd: &Sshd| {
        let key = fs::read_to_string(sshd.file("user.pub")).unwrap();
        let options = "restrict,command=\"internal-sftp -R\"";
        fs::write(sshd.file("user.pub"), format!("{options} {key}")).unwrap();
    };
    for (subsystem, prepare) in [
        ("internal-sftp -R", (|_| {}) as fn(&Sshd)),
        // The line of a key holds, whatever the server would do otherwise.
        ("internal-sftp", key_line),
    ] {
        let (dir, sshd) = (repository(), Sshd::start(subsystem));
        prepare(&sshd);
        let user = Sshd::user();
        let host = Host { user: Some(&user), host: "127.0.0.1", port: Some(sshd.port), ..Host::default() };
        let store = Sftp::new(
            ssh(&host, vec![("PATH".into(), sshd.path().into())]),
            dir.path().to_str().unwrap(),
            "sftp:test",
        );
        assert_eq!(store.get("config", 99).await.unwrap(), "content", "{subsystem}");
        let config = dir.path().join("config");
        for batch in [
            format!("put {} {}", config.display(), dir.path().join("new").display()),
            format!("rm {}", config.display()),
            format!("rename {} {}", config.display(), dir.path().join("new").display()),
        ] {
            let mut sftp = Command::new("sftp");
            sftp.arg("-q").arg("-F").arg(sshd.file("ssh_config")).arg("-b").arg("-");
            sftp.args(["-P", &sshd.port.to_string(), &format!("{user}@127.0.0.1")]);
            let mut sftp =
                sftp.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            writeln!(sftp.stdin.take().unwrap(), "{batch}").unwrap();
            let ended = sftp.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(!ended.status.success() && said.contains("ermission denied"), "{batch}: {said}");
        }
        assert_eq!(fs::read(config).unwrap(), b"content");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
