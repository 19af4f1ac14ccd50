//! How the places where sources lie let us in. What nobody said follows from the machine: Amazon's usual chain, the
//! system's certificates, ssh's own configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Password, wire};
use crate::error::Result;

/// What was said about getting in, of every kind of place; each kind takes what is for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Credentials {
    /// For S3.
    pub s3: S3Access,
    /// For a REST server.
    pub rest: Login,
    /// For whatever speaks TLS.
    pub tls: Tls,
    /// For SSH.
    pub ssh: Ssh,
    /// For rclone.
    pub rclone: RcloneSettings,
}

impl Credentials {
    /// Reads the passwords in it that were said or that the service manager holds for `name`.
    pub(super) fn settle(&mut self, name: &str) -> Result<()> {
        self.s3.secret.settle(&format!("{name}.s3"))?;
        self.rest.password.settle(&format!("{name}.rest"))
    }
}

/// Who we are to an S3 server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct S3Access {
    /// The id of the key whose secret is `secret`; `None` for the usual chain.
    pub key_id: Option<String>,
    /// The secret access key.
    #[serde(skip)]
    pub secret: Password,
    /// The token that goes with a temporary key; only the environment has one.
    #[serde(skip)]
    pub session: Password,
    /// A profile of `~/.aws`.
    pub profile: Option<String>,
    /// A role to assume (its ARN).
    pub role: Option<String>,
    /// The region; found out where it is not given.
    pub region: Option<String>,
    /// Requests are not signed.
    pub anonymous: bool,
    /// Where the bucket stands in requests.
    pub addressing: Addressing,
}

/// Where the bucket stands in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addressing {
    /// In the host's name at Amazon, in the path elsewhere.
    #[default]
    Auto,
    /// In the path.
    Path,
    /// In the host's name.
    Virtual,
}

/// A name and a password.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Login {
    /// The name.
    pub user: Option<String>,
    /// The password.
    #[serde(skip)]
    pub password: Password,
}

/// Whom to trust, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Certificates (PEM) of authorities that are trusted besides the system's.
    #[serde(with = "wire::optional_path")]
    pub ca: Option<PathBuf>,
    /// Our own certificate with its key (PEM).
    #[serde(with = "wire::optional_path")]
    pub client_cert: Option<PathBuf>,
}

/// What ssh is told beyond its own configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// The key to show.
    #[serde(with = "wire::optional_path")]
    pub key: Option<PathBuf>,
    /// The file of known hosts.
    #[serde(with = "wire::optional_path")]
    pub known_hosts: Option<PathBuf>,
    /// A configuration file of its own.
    #[serde(with = "wire::optional_path")]
    pub config: Option<PathBuf>,
}

/// How rclone is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RcloneSettings {
    /// Its configuration file.
    #[serde(with = "wire::optional_path")]
    pub config: Option<PathBuf>,
    /// The program, when it is not the `rclone` of the search path.
    #[serde(with = "wire::optional_path")]
    pub program: Option<PathBuf>,
}
