"""Mounts of the program under test, made and ended as a user would."""
import contextlib, os, pathlib, signal, subprocess, time

from cases import FIXTURES, PROJECT, Skip, children, mounts_below, run, scratch, until
from rights import called

MOUNT_SECONDS = 30


class Repository:
    """A repository on this machine with its password file; hot: the hot part of a pair."""

    def __init__(self, path, password, hot=None):
        self.path, self.password, self.hot = pathlib.Path(path), pathlib.Path(password), hot

    def arguments(self):
        """What tells backupfs to open it."""
        hot = ["--repo-hot", self.hot] if self.hot else []
        return ["-r", self.path, *hot, "--password-file", self.password]


def fixture(name):
    """A committed repository; never to be written to."""
    base = FIXTURES / name
    hot = base / "hot"
    return Repository(base / "repo", base / "password", hot if hot.is_dir() else None)


def binary():
    """The program under test: $BACKUPFS, else the newest build in this project."""
    if "BACKUPFS" in os.environ:
        return pathlib.Path(os.environ["BACKUPFS"]).resolve()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
    built = [p for p in (target / "release" / "backupfs", target / "debug" / "backupfs") if p.is_file()]
    if not built:
        raise SystemExit("no backupfs to test: run cargo build, or set BACKUPFS")
    return max(built, key=lambda p: p.stat().st_mtime).resolve()


def environment(**more):
    """A clean environment: nothing of the developer's own repositories or caches."""
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "TMPDIR", "RUST_BACKTRACE", "TZ")}
    home = scratch("home")
    return {**keep, "HOME": str(home), "XDG_CACHE_HOME": str(home), "BACKUPFS_CACHE_DIR": str(home / "cache"), "LC_ALL": "C.UTF-8", **more}


def backupfs(*argv, timeout=60, check=True, env=None, user=None, cwd=None):
    """Runs a command of the program under test."""
    return run(binary(), *argv, timeout=timeout, check=check, env=env or environment(), user=user, cwd=cwd)


class Mount:
    """A mounted repository. path: the mountpoint; pid: who serves it; daemon: the same, or as root its broker; log: its log file; said: what mount wrote to stderr.
    passed: variables of the environment that the command may see, beside those that the repository brings."""

    def __init__(self, repository, *options, at=None, log_level="warn", passed=()):
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise Skip("no access to /dev/fuse")
        self.repository = repository
        self.path = pathlib.Path(at) if at else scratch("mnt")
        self.log = scratch("log") / "backupfs.log"
        variables = {name: os.environ[name] for name in passed} | getattr(repository, "variables", {})
        before, env = children(), environment(**variables)
        result = backupfs("mount", self.path, *repository.arguments(), "-o", f"log={self.log},log-level={log_level}", *options,
                          timeout=MOUNT_SECONDS, env=env)
        self.said = result.message
        daemons = children() - before
        assert len(daemons) == 1, f"{len(daemons)} processes left by a mount, expected the daemon alone"
        self.daemon = daemons.pop()
        self.pid = next(iter(called("serve", self.daemon)), self.daemon)

    def __truediv__(self, name):
        return self.path / name

    def logged(self):
        """The log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def peak_rss(self):
        """Most memory the daemon ever had, in bytes."""
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))

    def alive(self):
        """Whether the daemon has not ended."""
        return self.daemon in children()

    def mounted(self):
        """Whether it is in the mount table."""
        return str(self.path) in mounts_below(self.path)

    def kill(self, number=signal.SIGKILL):
        """Sends the daemon a signal."""
        os.kill(self.daemon, number)

    def wait(self, seconds=20):
        """Waits for the daemon to end; gives its exit code (negative: the signal)."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.daemon, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < end, f"the daemon runs on after {seconds} s"
            time.sleep(0.01)

    def end(self):
        """Unmounts as a user does: everything must be gone soon, the exit clean."""
        if self.mounted():
            backupfs("umount", self.path)
        if self.alive():
            code = self.wait()
            assert code == 0, f"the daemon ended with {code}"

    def abandon(self):
        """Ends it in whatever state it is."""
        for at in mounts_below(self.path):
            command = ["umount", "-l", at] if os.getuid() == 0 else ["fusermount3", "-uz", at]
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
        if self.alive():
            self.kill()


@contextlib.contextmanager
def mounted(repository, *options, **more):
    """with mounted(fixture("restic-v2")) as m: …; unmounted at the end, cleanly when the body passed."""
    mount = Mount(repository, *options, **more)
    try:
        yield mount
        mount.end()
    finally:
        mount.abandon()


def wait_for_name(path, seconds=10):
    """Waits until a name appears in its directory's listing."""
    until(lambda: path.name in os.listdir(path.parent), seconds, f"{path.name} is listed")
