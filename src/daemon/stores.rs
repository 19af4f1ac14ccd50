//! From a location to the store that holds what lies there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{place, programs, s3};
use crate::config::{Credentials, Location, location};
use crate::error::{Error, Kind, Result};
use crate::locked::Locked;
use crate::store::bucket::Bucket;
use crate::store::distant::{self, Endpoint};
use crate::store::rest::{self, Server, Trust};
use crate::store::sftp::{self, Sftp};
use crate::store::{Local, ObjectStore, rclone};

/// A call of a distant store ends after this: a little before whoever waits for file data gives up by default, so that
/// the cause is told.
const PATIENCE: Duration = Duration::from_secs(57);

/// The store that holds what lies at `location`, with what a network needs around it.
pub(super) fn store(location: &Location, credentials: &Credentials) -> Result<Arc<dyn ObjectStore>> {
    let bare = bare_store(location, credentials)?;
    Ok(match location.server() {
        Some(server) => distant::guarded(bare, Endpoint::of(&server), PATIENCE),
        None => bare,
    })
}

/// A bucket at `location`, with what a network needs around it.
pub(super) fn guarded_bucket(bare: Arc<dyn Bucket>, location: &Location) -> Arc<dyn Bucket> {
    match location.server() {
        Some(server) => distant::guarded_bucket(bare, Endpoint::of(&server), PATIENCE),
        None => bare,
    }
}

/// The store itself; what it needs of `credentials` is known.
fn bare_store(location: &Location, credentials: &Credentials) -> Result<Arc<dyn ObjectStore>> {
    match location {
        Location::Local(path) => Ok(Arc::new(Local::at(path, None, place::of(path))?)),
        Location::Rest(place) => rest(place, credentials),
        Location::Sftp(place) => Ok(sftp(place, credentials)),
        Location::Rclone(place) => by_rclone(place, credentials),
        Location::S3(place) => Ok(Arc::new(s3::store(place, credentials)?)),
        Location::Zfs(_) => Err(Error::new(Kind::Unsupported, format!("{location} holds no objects"))),
    }
}

/// A repository of a REST server.
fn rest(place: &location::Rest, credentials: &Credentials) -> Result<Arc<dyn ObjectStore>> {
    let server = match &place.server {
        location::Server::Web(endpoint) => Server::Web { authority: endpoint.authority(), tls: endpoint.tls },
        location::Server::Unix { socket, tls } => Server::Unix { socket: socket.clone(), tls: *tls },
    };
    let user = place.user.as_ref().or(credentials.rest.user.as_ref());
    let password = credentials.rest.password.known_bytes();
    let login = (user.is_some() || password.is_some())
        .then(|| (user.cloned().unwrap_or_default(), Locked::from(password.unwrap_or_default())));
    let trust =
        Trust { authorities: credentials.tls.ca.clone(), identity: credentials.tls.client_cert.clone() };
    let name = Location::Rest(place.clone()).to_string();
    Ok(Arc::new(rest::Rest::new(rest::Settings { server, path: place.path.clone(), login, trust, name })?))
}

/// A directory behind SSH.
fn sftp(place: &location::Sftp, credentials: &Credentials) -> Arc<dyn ObjectStore> {
    let ssh = &credentials.ssh;
    let host = sftp::Host {
        user: place.user.as_deref(),
        host: &place.host,
        port: place.port,
        key: ssh.key.as_deref(),
        known_hosts: ssh.known_hosts.as_deref(),
        config: ssh.config.as_deref(),
    };
    let name = Location::Sftp(place.clone()).to_string();
    Arc::new(Sftp::new(sftp::ssh(&host, programs::ssh()), place.path.clone(), name))
}

/// What rclone reaches.
fn by_rclone(place: &location::Rclone, credentials: &Credentials) -> Result<Arc<dyn ObjectStore>> {
    let settings = &credentials.rclone;
    let mut environment = programs::rclone();
    if let Some(config) = &settings.config {
        environment.retain(|(name, _)| name != "RCLONE_CONFIG");
        environment.push(("RCLONE_CONFIG".into(), config.into()));
    }
    let program = settings.program.as_deref().map(Path::new);
    let name = Location::Rclone(place.clone()).to_string();
    Ok(Arc::new(rclone(&place.remote, &name, program, environment)?))
}
