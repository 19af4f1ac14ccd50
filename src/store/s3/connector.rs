//! The HTTP client below the SDK: HTTP/1.1 over TLS, whose connections and TLS sessions are kept for the next request.

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use crate::error::{Error, Kind, Result};

/// Connections without a request are closed after this; servers and routers forget them at about a minute.
const IDLE: Duration = Duration::from_secs(45);

/// A client that trusts the system's authorities and those in the file `ca` (PEM). Errors: a file that cannot be read or
/// holds no certificate.
pub(super) fn client(ca: Option<&Path>) -> Result<SharedHttpClient> {
    let mut trust = TrustStore::empty().with_native_roots(true);
    if let Some(ca) = ca {
        trust = trust.with_pem_certificate(certificates(ca)?);
    }
    let tls = TlsContext::builder().with_trust_store(trust).build();
    let tls = tls.map_err(|e| Error::caused_by(Kind::System, "TLS", e))?;
    let client = Builder::new().pool_idle_timeout(IDLE).tls_provider(Provider::Rustls(CryptoMode::AwsLc));
    Ok(client.tls_context(tls).build_https())
}

fn certificates(file: &Path) -> Result<Vec<u8>> {
    let named = || format!("certificates {}", file.display());
    let pem = std::fs::read(file).map_err(|e| Error::io(named(), e))?;
    if !pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----") {
        return Err(Error::new(Kind::Invalid, format!("{}: holds no certificate in PEM form", named())));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_when_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        assert_eq!(client(Some(&file)).unwrap_err().kind(), Kind::NotFound);
        std::fs::write(&file, "-----BEGIN PRIVATE KEY-----\n").unwrap();
        assert_eq!(client(Some(&file)).unwrap_err().kind(), Kind::Invalid);
    }
}
