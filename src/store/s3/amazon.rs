//! What is special about the endpoints of some services.

/// Amazon's own S3, named by one of its general endpoints.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Amazon {
    /// The region that the endpoint's name holds.
    pub region: Option<String>,
}

/// The host of a URL, without its port.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host))
}

/// Recognises `s3.amazonaws.com`, `s3.REGION.amazonaws.com` and `s3-REGION.amazonaws.com` (with `.cn` in China) by TLS.
/// There the SDK finds the endpoint of a bucket's region itself. Others (dual-stack, accelerated, private ones) are
/// taken as they are.
pub(super) fn of(url: &str) -> Option<Amazon> {
    let rest = url.strip_prefix("https://")?;
    if rest.contains(':') {
        return None;
    }
    let name = host(url)?;
    let name = name.strip_suffix(".amazonaws.com.cn").or_else(|| name.strip_suffix(".amazonaws.com"))?;
    if name == "s3" {
        return Some(Amazon { region: None });
    }
    let region = name.strip_prefix("s3.").or_else(|| name.strip_prefix("s3-"))?;
    let is_region = !region.contains('.') && region.ends_with(|c: char| c.is_ascii_digit());
    is_region.then(|| Amazon { region: Some(region.to_owned()) })
}

/// Whether the service takes buckets only in the name of the host.
pub(super) fn wants_virtual(url: &str) -> bool {
    let host = host(url).unwrap_or_default();
    [".amazonaws.com", ".amazonaws.com.cn", ".aliyuncs.com"].iter().any(|domain| host.ends_with(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazon_s_general_endpoints_are_known_with_their_regions() {
        for (url, region) in [
            ("https://s3.amazonaws.com", None),
            ("https://s3.eu-central-1.amazonaws.com", Some("eu-central-1")),
            ("https://s3-eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("https://s3.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
        ] {
            assert_eq!(of(url), Some(Amazon { region: region.map(str::to_owned) }), "{url}");
        }
        for other in [
            "http://s3.amazonaws.com",
            "https://s3.amazonaws.com:8443",
            "https://s3.dualstack.eu-west-1.amazonaws.com",
            "https://s3-accelerate.amazonaws.com",
            "https://b.s3.eu-west-1.amazonaws.com",
            "https://s3.amazonaws.com.example.org",
            "https://minio.example.org",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn buckets_go_into_the_host_s_name_where_that_is_demanded() {
        assert!(wants_virtual("https://oss-cn-hangzhou.aliyuncs.com"));
        assert!(wants_virtual("https://s3.dualstack.eu-west-1.amazonaws.com"));
        for other in
            ["https://minio.example.org:9000", "http://127.0.0.1:9000", "https://aliyuncs.com.example.org"]
        {
            assert!(!wants_virtual(other), "{other}");
        }
    }
}
