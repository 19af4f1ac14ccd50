//! Whose certificates are believed, and which one is ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Kind, Result};

/// Certificates of a store.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// A file of authorities, in PEM, that count besides the system's.
    pub authorities: Option<PathBuf>,
    /// A file with our certificate and its key, in PEM.
    pub identity: Option<PathBuf>,
}

/// The side of TLS that asks. Errors: `Usage`, naming the file that cannot be used.
pub(super) fn client(trust: &Trust) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // What of the system's cannot be read or parsed counts for nothing.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = &trust.authorities {
        for authority in certificates(file)? {
            roots.add(authority).map_err(|e| wrong(file, "holds no authority", e))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let failed = |e| Error::caused_by(Kind::Internal, "TLS cannot be set up", e);
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(failed)?.with_root_certificates(roots);
    let config = match &trust.identity {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let key =
                PrivateKeyDer::from_pem_file(file).map_err(|e| wrong(file, "holds no private key", e))?;
            let chain = certificates(file)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| wrong(file, "cannot be used", e))?
        }
    };
    // No protocol is named: HTTP/1.1, of which each request under way has a connection of its own.
    Ok(Arc::new(config))
}

/// The certificates in a file, one at least.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |e| wrong(file, "cannot be read", e);
    let found = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
    let found: Vec<_> = found.collect::<std::result::Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(Error::new(Kind::Usage, format!("{}: holds no certificate in PEM", file.display())));
    }
    Ok(found)
}

fn wrong(file: &Path, what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused_by(Kind::Usage, format!("{}: {what}", file.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(trust: Trust) -> String {
        let error = client(&trust).err().unwrap();
        assert_eq!(error.kind(), Kind::Usage);
        error.to_string()
    }

    #[test]
    fn files_that_are_none_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        let garbage = dir.path().join("garbage.pem");
        std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        for (file, says) in [
            (dir.path().join("absent.pem"), "absent.pem: cannot be read"),
            (empty.clone(), "empty.pem: holds no certificate"),
            (garbage, "garbage.pem: holds no authority"),
        ] {
            let told = refused(Trust { authorities: Some(file), identity: None });
            assert!(told.contains(says), "{told}");
        }
        let told = refused(Trust { authorities: None, identity: Some(empty) });
        assert!(told.contains("empty.pem: holds no private key"), "{told}");
    }

    #[test]
    fn nothing_needs_to_be_named() {
        client(&Trust::default()).unwrap();
    }
}
