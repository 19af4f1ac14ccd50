//! Who asks: given keys, nobody, or whom the usual chain of the AWS tools finds (environment, profiles with SSO,
//! `credential_process` and roles, web identity, container and instance metadata).

use std::fmt;

use aws_config::BehaviorVersion;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_sdk_s3::config::{Credentials, Region, SharedCredentialsProvider, SharedHttpClient};

use crate::error::Result;
use crate::locked::Locked;

/// Who asks.
#[derive(Clone, PartialEq)]
pub enum Identity {
    /// Whom the usual chain finds; with a profile, that one of `~/.aws`.
    Usual {
        /// Its name.
        profile: Option<String>,
    },
    /// A key that the configuration gives.
    Key {
        /// Its id.
        id: String,
        /// Its secret.
        secret: Locked<str>,
        /// What goes with a temporary key.
        session: Option<Locked<str>>,
    },
    /// Nobody: requests are not signed.
    Anonymous,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Usual { profile } => f.debug_struct("Usual").field("profile", profile).finish(),
            Identity::Key { id, .. } => f.debug_struct("Key").field("id", id).finish_non_exhaustive(),
            Identity::Anonymous => f.write_str("Anonymous"),
        }
    }
}

/// The region that the environment or the profile names. The machine's metadata is not asked: where buckets are it does
/// not know, and outside of a cloud it takes seconds not to answer.
pub(super) async fn region(identity: &Identity) -> Option<String> {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Identity::Usual { profile: Some(name) } = identity {
        profile = profile.profile_name(name);
    }
    let chain =
        RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile.build());
    chain.region().await.map(|region| region.to_string())
}

/// What signs requests; `None` when nothing does.
pub(super) async fn provider(
    identity: &Identity,
    role: Option<&str>,
    region: &str,
    http: &SharedHttpClient,
) -> Result<Option<SharedCredentialsProvider>> {
    let region = Region::new(region.to_owned());
    let sdk =
        || aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).region(region.clone());
    let own = match identity {
        Identity::Anonymous => return Ok(None),
        Identity::Key { id, secret, session } => {
            let session = session.as_ref().map(|token| str::to_owned(token));
            let key = Credentials::new(id, &**secret, session, None, "configuration");
            SharedCredentialsProvider::new(key)
        }
        // A profile that was named goes before the environment.
        Identity::Usual { profile: Some(name) } => {
            let config = ProviderConfig::without_region()
                .with_region(Some(region.clone()))
                .with_http_client(http.clone());
            let named =
                ProfileFileCredentialsProvider::builder().configure(&config).profile_name(name).build();
            SharedCredentialsProvider::new(named)
        }
        Identity::Usual { profile: None } => match sdk().load().await.credentials_provider() {
            Some(chain) => chain,
            None => return Ok(None),
        },
    };
    let Some(role) = role else { return Ok(Some(own)) };
    let sdk = sdk().no_credentials().load().await;
    let role = AssumeRoleProvider::builder(role).session_name("backupfs").configure(&sdk).region(region);
    Ok(Some(SharedCredentialsProvider::new(role.build_from_provider(own).await)))
}
