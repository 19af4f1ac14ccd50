//! Certificates: nobody's, ours, and one of our own to show.

use std::path::{Path, PathBuf};
use std::process::Command;

use backupfs::error::{Again, Kind};
use backupfs::store::ObjectStore;
use backupfs::store::rest::{Rest, Server, Settings, Trust};

use crate::harness::child::{has, output};
use crate::harness::rclone::Rclone;
use crate::seen;

/// An authority, and certificates of a server and of a client that it signed.
struct Papers(tempfile::TempDir);

impl Papers {
    fn new() -> Self {
        let papers = Papers(tempfile::tempdir().unwrap());
        let key = |name: &str| {
            let key = papers.path(&format!("{name}.key"));
            let certificate = papers.path(&format!("{name}.pem"));
            let mut openssl = Command::new("openssl");
            openssl.args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ]);
            openssl.args(["-days", "2", "-subj"]).arg(format!("/CN={name}")).arg("-keyout").arg(key);
            openssl.arg("-out").arg(certificate);
            openssl
        };
        output(&mut key("authority"));
        for name in ["server", "client"] {
            let mut signed = key(name);
            signed
                .arg("-CA")
                .arg(papers.path("authority.pem"))
                .arg("-CAkey")
                .arg(papers.path("authority.key"));
            output(signed.args([
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-addext",
                "basicConstraints=CA:FALSE",
            ]));
        }
        let both = ["client.pem", "client.key"].map(|name| std::fs::read(papers.path(name)).unwrap());
        std::fs::write(papers.path("identity.pem"), both.concat()).unwrap();
        papers
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

fn store(address: &str, authorities: Option<PathBuf>, identity: Option<PathBuf>) -> Rest {
    Rest::new(Settings {
        server: Server::Web { authority: address.into(), tls: true },
        path: "/".into(),
        login: None,
        trust: Trust { authorities, identity },
        name: "rest:test".into(),
    })
    .unwrap()
}

fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config"), "x").unwrap();
    dir
}

fn serve(dir: &Path, papers: &Papers, more: &[&str]) -> Rclone {
    let (certificate, key) = (papers.text("server.pem"), papers.text("server.key"));
    Rclone::serve(dir, &[&["--cert", &certificate, "--key", &key], more].concat())
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_refused_and_one_of_our_authority_is_not() {
    if !has("openssl") || !has("rclone") {
        return;
    }
    let (dir, papers) = (repository(), Papers::new());
    let server = serve(dir.path(), &papers, &[]);
    let stranger = store(&server.address, None, None);
    assert_eq!(seen(stranger.stat("config").await), (Kind::Denied, Again::Never));
    let told = stranger.stat("config").await.unwrap_err().to_string();
    assert!(told.contains("certificate is not trusted") && told.contains("ca-file"), "{told}");
    let known = store(&server.address, Some(papers.path("authority.pem")), None);
    assert_eq!(known.get("config", 9).await.unwrap(), "x");
    // The certificate is for an address, not for this name.
    let renamed =
        store(&server.address.replace("127.0.0.1", "localhost"), Some(papers.path("authority.pem")), None);
    assert_eq!(seen(renamed.stat("config").await), (Kind::Denied, Again::Never));
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_ours() {
    if !has("openssl") || !has("rclone") {
        return;
    }
    let (dir, papers) = (repository(), Papers::new());
    let server = serve(dir.path(), &papers, &["--client-ca", &papers.text("authority.pem")]);
    let authority = || Some(papers.path("authority.pem"));
    let nobody = store(&server.address, authority(), None);
    assert_eq!(seen(nobody.stat("config").await).0, Kind::Denied);
    let known = store(&server.address, authority(), Some(papers.path("identity.pem")));
    assert_eq!(known.get("config", 9).await.unwrap(), "x");
}
