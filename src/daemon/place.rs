//! Places on this machine, which may hang as a file server does that is gone: nobody waits for one for long, and none
//! takes the threads of another.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::fuse;
use crate::store::Place;

/// A file system that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file system on which `path` lies, as the table of mounts has it: it is not asked itself, so links are not followed.
pub(super) fn of(path: &Path) -> Arc<Place> {
    match fuse::mount_of(path) {
        Ok(Some(mount)) => Place::of(mount.mountpoint.as_os_str()),
        _ => Place::of(path.as_os_str()),
    }
}

/// What `look` finds at `path`. Errors: `TimedOut` when its file system hangs.
pub(super) async fn look<T: Send + 'static>(
    path: &Path,
    look: impl FnOnce(&Path) -> Result<T> + Send + 'static,
) -> Result<T> {
    look_for(PATIENCE, path, look).await
}

async fn look_for<T: Send + 'static>(
    patience: Duration,
    path: &Path,
    look: impl FnOnce(&Path) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (place, owned) = (of(path), path.to_owned());
    let looking = place.run(move || look(&owned));
    match tokio::time::timeout(patience, looking).await {
        Ok(found) => found?,
        Err(_) => {
            let says = format!(
                "{}: no answer in {} s; does its file server hang?",
                path.display(),
                patience.as_secs()
            );
            Err(Error::new(Kind::TimedOut, says))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hangs_is_not_waited_for() {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let moment = Duration::from_millis(20);
        let error = look_for(moment, "/".as_ref(), move |_| Ok(held.recv())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::TimedOut);
        drop(hold);
        assert!(look("/".as_ref(), |path| Ok(path.is_dir())).await.unwrap());
    }

    #[test]
    fn a_place_is_known_by_its_mount() {
        assert!(Arc::ptr_eq(&of("/proc/self".as_ref()), &of("/proc/1/x".as_ref())));
        assert!(!Arc::ptr_eq(&of("/proc/self".as_ref()), &of("/nowhere".as_ref())));
    }
}
