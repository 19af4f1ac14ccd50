"""Repositories made on the spot by the restic on PATH (or $RESTIC)."""
import json, os, pathlib, shutil, sys

from cases import Skip, run, scratch
from mount import Repository, environment

MKTREE = pathlib.Path(__file__).resolve().parent / "mktree.py"


def program():
    """The restic to use."""
    found = shutil.which(os.environ.get("RESTIC", "restic"))
    if not found:
        raise Skip("no restic on PATH")
    return found


class Restic(Repository):
    """A fresh repository. base: where to make it."""

    def __init__(self, base=None, password="a test's password"):
        base = pathlib.Path(base) if base else scratch("restic")
        (base / "password").write_text(password)
        super().__init__(base / "repo", base / "password")
        self("init")

    def __call__(self, *argv, timeout=120, check=True, cwd=None):
        """Runs restic on this repository."""
        env = environment(RESTIC_REPOSITORY=str(self.path), RESTIC_PASSWORD_FILE=str(self.password))
        return run(program(), "--no-cache", *argv, timeout=timeout, check=check, env=env, cwd=cwd)

    def backup(self, *paths, host="live", time=None, tags=(), cwd=None):
        """Saves paths; time as 2024-01-31 12:00:00, in UTC. Gives the snapshot's id."""
        when = ["--time", time] if time else []
        tagged = [word for tag in tags for word in ("--tag", tag)]
        self("backup", "-q", "--host", host, *when, *tagged, "--", *paths, cwd=cwd)
        return max(self.snapshots(), key=lambda s: (self.path / "snapshots" / s["id"]).stat().st_mtime_ns)["id"]

    def snapshots(self):
        """What restic lists."""
        return json.loads(self("snapshots", "--no-lock", "--json").out)

    def locks(self):
        """Names of lock files."""
        return os.listdir(self.path / "locks")


def tree(big=300_000, seed=1):
    """A fresh directory with every kind of entry this restic can save; needs root."""
    source = scratch("source") / "tree"
    run(sys.executable, MKTREE, source, str(seed), env=environment(BIG=str(big)))
    version = run(program(), "version").text.split()[1]
    if tuple(map(int, version.split(".")[:2])) < (0, 16):  # before, bytes of links were lost
        (source / "links" / "bytes").unlink()
    return source


def set_name(path, host="live"):
    """How the set of a directory is called."""
    return f"{host}@{str(path).replace('%', '%25').replace('+', '%2B').replace('/', '+')}"
