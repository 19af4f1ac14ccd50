//! What the environment says: restic's variables, Amazon's, and where homes and caches are.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::location::Location;
use super::password::{Password, Secret};
use super::{Credentials, Login, S3Access, Tls};
use crate::error::{Error, Kind, Result};

/// The variables that count. docs/options.md explains each.
const NAMES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "BACKUPFS_CACHE_DIR",
    "HOME",
    "RESTIC_CACERT",
    "RESTIC_KEY_HINT",
    "RESTIC_REPOSITORY",
    "RESTIC_REPOSITORY_FILE",
    "RESTIC_REST_PASSWORD",
    "RESTIC_REST_USERNAME",
    "RESTIC_TLS_CLIENT_CERT",
    "XDG_CACHE_HOME",
];

/// Those of them that are set to something.
#[derive(Clone, Default)]
pub struct Environment(HashMap<&'static str, OsString>);

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        Environment::from(|name| std::env::var_os(name))
    }

    /// One in which variables are what `get` says.
    pub fn from(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = NAMES.iter().filter_map(|name| Some((*name, get(name).filter(|value| !value.is_empty())?)));
        Environment(set.collect())
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        debug_assert!(NAMES.contains(&name), "{name} is not among those that count");
        self.0.get(name).map(OsString::as_os_str)
    }

    /// One that names an absolute path.
    pub fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The value of one as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn secret(&self, name: &str) -> Password {
        let bytes = self.get(name).map(|value| Zeroizing::new(value.as_bytes().to_vec()));
        bytes.map(|bytes| Password::known(Secret::new(bytes))).unwrap_or_default()
    }

    /// The repository that it names, if it does. Errors: a file of it that cannot be read.
    pub fn repository(&self) -> Result<Option<(&'static str, OsString)>> {
        if let Some(repository) = self.get("RESTIC_REPOSITORY") {
            return Ok(Some(("RESTIC_REPOSITORY", repository.to_owned())));
        }
        let Some(file) = self.get("RESTIC_REPOSITORY_FILE") else { return Ok(None) };
        let name = "RESTIC_REPOSITORY_FILE";
        let failed = |e| Error::io(format!("{name} {}", file.display()), e).with_kind(Kind::Usage);
        let bytes = std::fs::read(file).map_err(failed)?;
        match bytes.trim_ascii() {
            [] => Err(Error::new(Kind::Usage, format!("{name} {} is empty", file.display()))),
            repository => Ok(Some((name, OsStr::from_bytes(repository).to_owned()))),
        }
    }

    /// Fills in what was not said of a source that the command line or the environment names, as restic does.
    pub fn fill_typed(&self, credentials: &mut Credentials) {
        let Credentials { rest, tls, .. } = credentials;
        let Login { user, password } = rest;
        if user.is_none() && password.is_unsaid() {
            *user = self.text("RESTIC_REST_USERNAME");
            *password = self.secret("RESTIC_REST_PASSWORD");
        }
        let Tls { ca, client_cert } = tls;
        *ca = ca.take().or_else(|| self.get("RESTIC_CACERT").map(PathBuf::from));
        *client_cert = client_cert.take().or_else(|| self.get("RESTIC_TLS_CLIENT_CERT").map(PathBuf::from));
    }

    /// Fills in Amazon's key, which comes first in the usual chain, where nothing was said of who we are. What else that
    /// chain knows it finds by itself; this alone must not stay in an environment.
    pub fn fill_s3(&self, credentials: &mut Credentials, locations: &[&Location]) {
        let S3Access { key_id, secret, session, profile, role: _, anonymous, .. } = &mut credentials.s3;
        let is_said = key_id.is_some() || profile.is_some() || *anonymous || !secret.is_unsaid();
        if is_said || !locations.iter().any(|location| matches!(location, Location::S3(_))) {
            return;
        }
        if self.get("AWS_ACCESS_KEY_ID").is_some() && self.get("AWS_SECRET_ACCESS_KEY").is_some() {
            *key_id = self.text("AWS_ACCESS_KEY_ID");
            *secret = self.secret("AWS_SECRET_ACCESS_KEY");
            *session = self.secret("AWS_SESSION_TOKEN");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(set: &[(&str, &str)]) -> Environment {
        Environment::from(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()))
    }

    fn s3() -> Location {
        super::super::location::parse(OsStr::new("s3:b"), "/".as_ref()).unwrap().location
    }

    #[test]
    fn what_is_empty_is_not_set() {
        let environment =
            environment(&[("HOME", ""), ("XDG_CACHE_HOME", "relative"), ("RESTIC_REPOSITORY", "/r")]);
        assert_eq!(environment.get("HOME"), None);
        assert_eq!(environment.absolute("XDG_CACHE_HOME"), None);
        assert_eq!(environment.repository().unwrap(), Some(("RESTIC_REPOSITORY", "/r".into())));
    }

    #[test]
    fn a_repository_may_stand_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("repository");
        let environment = environment(&[("RESTIC_REPOSITORY_FILE", file.to_str().unwrap())]);
        assert_eq!(environment.repository().unwrap_err().kind(), Kind::Usage);
        std::fs::write(&file, "\n").unwrap();
        assert!(environment.repository().unwrap_err().to_string().ends_with("is empty"));
        std::fs::write(&file, "s3:bucket/x\n").unwrap();
        assert_eq!(environment.repository().unwrap().unwrap().1, "s3:bucket/x");
        assert!(Environment::default().repository().unwrap().is_none());
    }

    #[test]
    fn a_login_of_the_url_comes_before_restic_s_variables() {
        let environment = environment(&[
            ("RESTIC_REST_USERNAME", "u"),
            ("RESTIC_REST_PASSWORD", "hunter2"),
            ("RESTIC_CACERT", "/ca"),
        ]);
        let mut credentials = Credentials::default();
        environment.fill_typed(&mut credentials);
        assert_eq!(credentials.rest.user.as_deref(), Some("u"));
        assert_eq!(credentials.rest.password.known_bytes(), Some(&b"hunter2"[..]));
        assert_eq!(credentials.tls.ca.as_deref(), Some("/ca".as_ref()));
        assert!(!format!("{credentials:?}").contains("hunter2"));
        let mut said = Credentials {
            rest: Login { user: Some("own".into()), ..Login::default() },
            ..Credentials::default()
        };
        environment.fill_typed(&mut said);
        assert_eq!((said.rest.user.as_deref(), said.rest.password.known_bytes()), (Some("own"), None));
    }

    #[test]
    fn amazon_s_key_is_for_s3_without_words_of_its_own() {
        let environment = environment(&[
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_SESSION_TOKEN", "token"),
        ]);
        let filled = |mut credentials: Credentials, location: &Location| {
            environment.fill_s3(&mut credentials, &[location]);
            let S3Access { key_id, secret, session, .. } = credentials.s3;
            (key_id, secret.known_bytes().is_some(), session.known_bytes().is_some())
        };
        let of = |s3: S3Access| Credentials { s3, ..Credentials::default() };
        assert_eq!(filled(Credentials::default(), &s3()), (Some("AKIA".into()), true, true));
        assert_eq!(filled(Credentials::default(), &Location::Local("/x".into())), (None, false, false));
        let own = S3Access { profile: Some("p".into()), ..S3Access::default() };
        assert_eq!(filled(of(own), &s3()), (None, false, false));
        assert_eq!(
            filled(of(S3Access { anonymous: true, ..S3Access::default() }), &s3()),
            (None, false, false)
        );
    }
}
