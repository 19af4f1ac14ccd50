"""Buckets as places that backups go to: rclone puts files there with all that it knows of them."""
import datetime, math, os, tempfile, time

from cases import run
from mount import environment

RCLONE = ("rclone", "--config", os.devnull, "--retries", "1")


class Bucket:
    """What a bucket of a server (s3.served) holds, as files. Shown as the set `data@+`; history: which moments of it are, where it
    keeps versions."""

    set = "data@+"

    def __init__(self, server, name="data", history=None):
        self.server, self.name, self.history = server, name, history
        self.variables = server.environment()
        self.path = server.bucket(name)
        if history:
            self._rclone("backend", "versioning", self._remote(), "Enabled")

    def arguments(self):
        """What tells backupfs to open it."""
        history = ["-o", f"history={self.history},zone=UTC"] if self.history else []
        return ["-r", f"objects:{self.server.url(self.name)}", *history]

    def put(self, source):
        """Makes it hold what is in a directory, with metadata; links as their targets."""
        self._rclone("sync", "--metadata", "--links", "--quiet", source, self._remote())

    def label(self, key, content, **labels):
        """Puts an object with metadata of another writer's."""
        words = [word for name, value in labels.items() for word in ("--metadata-set", f"{name}={value}")]
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            self._rclone("rcat", "--metadata", *words, f"{self._remote()}/{key}", stdin=file)

    def backup(self, source, **_):
        """The same as `put`; gives the name of the moment. What is put later has another: a server has times of its own."""
        self.put(source)
        done = math.floor(time.time())
        time.sleep(max(0, done + 1 - time.time()))
        return datetime.datetime.fromtimestamp(done, datetime.timezone.utc).strftime("%Y%m%d_%H%M%S")

    def _remote(self):
        return f":s3,provider=Other,endpoint='{self.server.endpoint}',env_auth=true,no_check_bucket=true:{self.name}"

    def _rclone(self, *words, stdin=None):
        run(*RCLONE, *words, env=environment(**self.variables), timeout=120, stdin=stdin)
