//! Where on this machine sources lie.

use std::path::{Path, PathBuf};

use crate::config::{self, Config, Group, Location};

/// Every directory of this machine that is read.
pub fn of(config: &Config) -> Vec<PathBuf> {
    let path = |location: Location| location.as_path().map(Path::to_owned);
    let of_source = |source: &config::Source| {
        [source.local_place(), source.hot.clone().and_then(path)].into_iter().flatten()
    };
    let groups = config.groups.iter().flat_map(Group::locations).filter_map(path);
    config.sources.iter().flat_map(of_source).chain(groups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Typed;

    #[test]
    fn of_a_pattern_it_is_what_stands_before_its_named_parts() {
        let repos =
            ["/srv/a", "directory:/srv/b/{host}/{time}", "/srv/c/*", "rest:http://h/"].map(Into::into);
        let config = config::resolve(&Typed { repos: repos.into(), ..Typed::default() }).unwrap();
        assert_eq!(of(&config), ["/srv/a", "/srv/b", "/srv/c"].map(PathBuf::from));
    }
}
