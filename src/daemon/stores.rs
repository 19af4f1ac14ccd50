//! The stores of places that are reached by a server.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::programs;
use crate::config::{Credentials, Location, location};
use crate::error::Result;
use crate::store::rest::{self, Server, Trust};
use crate::store::sftp::{self, Sftp};
use crate::store::{ObjectStore, rclone};

/// A repository of a REST server.
pub(super) fn rest(place: &location::Rest, credentials: &Credentials) -> Result<Arc<dyn ObjectStore>> {
    let server = match &place.server {
        location::Server::Web(endpoint) => Server::Web { authority: endpoint.authority(), tls: endpoint.tls },
        location::Server::Unix { socket, tls } => Server::Unix { socket: socket.clone(), tls: *tls },
    };
    let user = place.user.as_ref().or(credentials.rest.user.as_ref());
    let password = credentials.rest.password.known_bytes();
    let login = (user.is_some() || password.is_some())
        .then(|| (user.cloned().unwrap_or_default(), Zeroizing::new(password.unwrap_or_default().to_vec())));
    let trust =
        Trust { authorities: credentials.tls.ca.clone(), identity: credentials.tls.client_cert.clone() };
    let name = Location::Rest(place.clone()).to_string();
    Ok(Arc::new(rest::Rest::new(rest::Settings { server, path: place.path.clone(), login, trust, name })?))
}

/// A directory behind SSH.
pub(super) fn sftp(place: &location::Sftp, credentials: &Credentials) -> Arc<dyn ObjectStore> {
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
pub(super) fn by_rclone(place: &location::Rclone, credentials: &Credentials) -> Result<Arc<dyn ObjectStore>> {
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
