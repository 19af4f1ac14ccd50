"""A real S3 server over a directory: versitygw ($VERSITYGW, else on PATH or in ~/go/bin), gone with whoever started it."""
import contextlib, os, pathlib, shutil, socket, subprocess, time

from cases import Skip, scratch

ACCESS, SECRET = "test-access", "test-secret-that-nobody-prints"


def program():
    """The server program."""
    found = os.environ.get("VERSITYGW") or shutil.which("versitygw") or shutil.which("versitygw", path=pathlib.Path.home() / "go/bin")
    if not found:
        raise Skip("no versitygw (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0)")
    return found


class Server:
    """endpoint: its URL; root: a directory whose directories are the buckets; versions: one with what was replaced in those that keep
    versions."""

    def __init__(self, *options):
        base = scratch("s3")
        self.root, self.versions = base / "root", base / "versions"
        for name in ("root", "meta", "iam", "versions"):
            (base / name).mkdir()
        self.log = base / "log"
        for _ in range(5):  # somebody else may take the free port first
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            command = ["setpriv", "--pdeathsig", "KILL", "--", program(), "--port", f"127.0.0.1:{self.port}", "--quiet", "--keep-alive",
                       "--iam-dir", base / "iam", *options, "posix", "--sidecar", base / "meta",
                       "--versioning-dir", self.versions, self.root]
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={
                    "PATH": "/usr/bin:/bin", "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET})
            if self._listens():
                self.endpoint = f"http://127.0.0.1:{self.port}"
                return
        raise AssertionError(f"versitygw does not come up: {self.log.read_text(errors='replace')}")

    def _listens(self):
        end = time.monotonic() + 20
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            time.sleep(0.02)
        return False

    def bucket(self, name):
        """Makes a bucket and gives its directory: what is copied there is served at once."""
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name

    def url(self, path):
        """restic's spelling of what lies at a path that begins with a bucket."""
        return f"s3:{self.endpoint}/{path}"

    def environment(self):
        """Variables that let restic and backupfs in."""
        return {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}

    def stop(self):
        """Ends it: its port refuses connections from now on."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def served(*options):
    """with served() as server: …; ended with the body."""
    server = Server(*options)
    try:
        yield server
    finally:
        server.stop()
