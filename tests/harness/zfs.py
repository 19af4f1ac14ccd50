"""A pool of a real ZFS: Debian's zfs-fuse, on a file, in a mount namespace of its own. Needs root.

    import zfs
    zfs.enter()                  # first thing in a script: it starts again where its zfs-fuse disturbs nobody else's
    pool = zfs.Pool()
    pool.zfs("create", "pool/x")

zfs-fuse is one for a machine (its socket lies in /run/zfs, its list of pools in /var/lib/zfs), so each script gets these directories
for itself, and the one in which backupfs mounts clones. Standard library only.
"""
import atexit, os, pathlib, shutil, subprocess, sys

from cases import FORGET_MOUNTS, Skip, run, scratch, until

MARK = "BACKUPFS_TEST_ZFS"
CLONES = pathlib.Path("/run/backupfs/clones")
CACHE = pathlib.Path("/var/lib/zfs/zpool.cache")

_ENTER = FORGET_MOUNTS + """
set -e
awk '$3 == "fuse.zfs" { print $2 }' /proc/mounts | xargs -r umount -lc
for own in /run/zfs /run/lock/zfs /var/lib/zfs /run/backupfs; do mkdir -p $own; mount -t tmpfs tmpfs $own; done
exec "$@"
"""


def enter():
    """Starts the script again in a namespace of its own, unless it is in one. What cannot be is told by Pool()."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if MARK in os.environ or os.getuid() != 0 or not shutil.which("zfs-fuse"):
        return
    os.environ[MARK] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh", sys.executable, *sys.argv])


class Pool:
    """A running zfs-fuse with a pool called name, mounted at path; it ends where the next one begins."""

    _running = None

    def __init__(self, name="pool", size="256M"):
        if MARK not in os.environ:
            raise Skip("ZFS needs root and zfs-fuse")
        if Pool._running:
            Pool._running.end()
        Pool._running = self
        self.name, self.path = name, scratch("pool")
        self._server = subprocess.Popen(["zfs-fuse", "-n"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        atexit.register(self.end)
        until(lambda: subprocess.run(["zpool", "list"], capture_output=True, check=False).returncode == 0, 20, "zfs-fuse answers")
        disk = scratch("disk") / "disk"
        run("truncate", "-s", size, disk)
        run("zpool", "create", "-m", self.path, name, disk)

    def zfs(self, *argv, check=True):
        """Runs zfs; gives its result."""
        return run("zfs", *argv, check=check, timeout=30)

    def names(self):
        """All datasets and snapshots."""
        return set(self.zfs("list", "-H", "-r", "-t", "all", "-o", "name", self.name).text.split("\n")[:-1])

    def clones(self):
        """Those that backupfs made."""
        return {name for name in self.names() if "/backupfs-" in name}

    def end(self):
        """Ends it, with all that is mounted of it."""
        if self._server.poll() is None:
            self._server.kill()
            self._server.wait()
            with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as table:
                left = [line.split()[1] for line in table if line.split()[2] == "fuse.zfs" or line.startswith("kstat ")]
            for at in reversed(left):
                subprocess.run(["umount", "-lc", at], stderr=subprocess.DEVNULL, check=False)
            CACHE.unlink(missing_ok=True)
            for left in CLONES.glob("*"):
                left.rmdir()


class Dataset:
    """What backupfs is to show: a dataset, or a pattern of datasets."""

    def __init__(self, dataset):
        self.dataset = dataset

    def arguments(self):
        """What tells backupfs to open it."""
        return ["-r", f"zfs:{self.dataset}"]
