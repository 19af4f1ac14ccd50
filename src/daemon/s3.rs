//! From what the configuration says of a place in S3 to a store.

use crate::config::location::S3 as Place;
use crate::config::{self, Credentials, Password, S3Access};
use crate::error::{Error, Kind, Result};
use crate::locked::Locked;
use crate::store::s3::{Addressing, Identity, Options, S3, Service};

/// The store at `place`; what it needs of `credentials` is known.
pub fn store(place: &Place, credentials: &Credentials) -> Result<S3> {
    let service = Service::shared(options(place, credentials)?)?;
    Ok(S3::new(service, place.to_string(), &place.bucket, &place.prefix))
}

fn options(place: &Place, credentials: &Credentials) -> Result<Options> {
    let S3Access { role, region, addressing, .. } = &credentials.s3;
    if credentials.tls.client_cert.is_some() {
        let says = "client-cert is for REST servers; S3 knows its users by keys";
        return Err(Error::new(Kind::Usage, says));
    }
    Ok(Options {
        endpoint: place.endpoint.as_ref().map(ToString::to_string),
        region: region.clone().or_else(|| place.region.clone()),
        addressing: match addressing {
            config::Addressing::Auto => Addressing::Auto,
            config::Addressing::Path => Addressing::Path,
            config::Addressing::Virtual => Addressing::Virtual,
        },
        identity: identity(&credentials.s3)?,
        role: role.clone(),
        ca: credentials.tls.ca.clone(),
    })
}

fn identity(access: &S3Access) -> Result<Identity> {
    if access.anonymous {
        return Ok(Identity::Anonymous);
    }
    match (&access.key_id, text(&access.secret)?) {
        (Some(id), Some(secret)) => {
            Ok(Identity::Key { id: id.clone(), secret, session: text(&access.session)? })
        }
        (None, None) => Ok(Identity::Usual { profile: access.profile.clone() }),
        _ => Err(Error::new(Kind::Usage, "s3-key-id and its secret (s3-secret-file) belong together")),
    }
}

/// A secret that was read, if there is one.
fn text(secret: &Password) -> Result<Option<Locked<str>>> {
    let Some(bytes) = secret.known_bytes() else { return Ok(None) };
    let text = std::str::from_utf8(bytes).map_err(|_| Error::new(Kind::Usage, "an S3 secret is no text"))?;
    Ok(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::config::Secret;

    fn place() -> Place {
        Place { endpoint: None, region: Some("eu-west-1".into()), bucket: "b".into(), prefix: "p".into() }
    }

    fn known(text: &str) -> Password {
        Password::known(Secret::new(Zeroizing::new(text.as_bytes().to_vec())))
    }

    #[test]
    fn who_asks_follows_from_what_was_said() {
        let mut access = S3Access { profile: Some("backup".into()), ..S3Access::default() };
        assert!(
            matches!(identity(&access).unwrap(), Identity::Usual { profile: Some(name) } if name == "backup")
        );
        access.key_id = Some("id".into());
        assert_eq!(identity(&access).unwrap_err().kind(), Kind::Usage);
        access.secret = known("hunter2");
        let key = identity(&access).unwrap();
        assert!(!format!("{key:?}").contains("hunter2"));
        assert!(
            matches!(key, Identity::Key { id, secret, session: None } if id == "id" && &*secret == "hunter2")
        );
        access.session = known("token");
        assert!(
            matches!(identity(&access).unwrap(), Identity::Key { session: Some(token), .. } if &*token == "token")
        );
        access.anonymous = true;
        assert!(matches!(identity(&access).unwrap(), Identity::Anonymous));
    }

    #[test]
    fn a_region_that_was_said_goes_before_the_one_in_the_location() {
        let mut credentials = Credentials::default();
        assert_eq!(options(&place(), &credentials).unwrap().region.as_deref(), Some("eu-west-1"));
        credentials.s3.region = Some("eu-west-3".into());
        assert_eq!(options(&place(), &credentials).unwrap().region.as_deref(), Some("eu-west-3"));
        credentials.tls.client_cert = Some("/cert.pem".into());
        assert_eq!(options(&place(), &credentials).unwrap_err().kind(), Kind::Usage);
    }
}
