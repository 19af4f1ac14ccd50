"""Repositories behind a real server with a proxy before it, and mounts of several sources at once."""
import errno, os, pathlib, shutil, socket, subprocess, time

from cases import Skip, scratch, until
from mount import Repository, environment
from proxy import Proxy
from s3 import Server

# What reading may end with during an outage: "no such file" and an empty directory never.
HONEST = {errno.EIO, errno.ETIMEDOUT}


class Served(Repository):
    """A repository as `rclone serve restic` with some options has it. proxy: stands before the server; stop(), start(): its
    outages."""

    def __init__(self, local, *options):
        if not shutil.which("rclone"):
            raise Skip("no rclone on PATH")
        super().__init__(local.path, local.password)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._log, self._server, self._options = scratch("server") / "log", None, options
        self.start()
        self.proxy = Proxy(self.port)

    def arguments(self):
        return ["-r", self.url(), "--password-file", self.password]

    def url(self):
        """Where backupfs finds it."""
        return f"rest:http://127.0.0.1:{self.proxy.port}/"

    def start(self):
        """The server listens when this returns."""
        with open(self._log, "ab") as log:
            self._server = subprocess.Popen(
                ["rclone", "serve", "restic", "--addr", f"127.0.0.1:{self.port}", "--config", os.devnull, *self._options, self.path],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment())
        until(self._listens, 20, "rclone listens")

    def _listens(self):
        assert self._server.poll() is None, self._log.read_text()[-300:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        """The server is gone, and its connections with it."""
        if self._server and self._server.poll() is None:
            self._server.kill()
            self._server.wait()

    def close(self):
        """Ends server and proxy."""
        self.stop()
        self.proxy.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class InBucket(Repository):
    """A copy of a repository in a bucket of a real S3 server, a proxy before it. environment: what lets us in."""

    def __init__(self, local):
        super().__init__(local.path, local.password)
        self._server = Server()
        shutil.copytree(local.path, self._server.bucket("backups") / "repo")
        self.proxy = Proxy(self._server.port)
        os.environ.update(self._server.environment())
        self.passed = tuple(self._server.environment())

    def arguments(self):
        return ["-r", self.url(), "--password-file", self.password]

    def url(self):
        """Where backupfs finds it."""
        return f"s3:http://127.0.0.1:{self.proxy.port}/backups/repo"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proxy.close()


class Objects:
    """A bucket of a real S3 server that holds the files of a directory, a proxy before it. date: the mount's name of what it
    holds now; passed: variables that let us in."""

    date = "files@+/latest"

    def __init__(self, source):
        self._server = Server()
        shutil.copytree(source, self._server.bucket("files"), dirs_exist_ok=True)
        self.proxy = Proxy(self._server.port)
        os.environ.update(self._server.environment())
        self.passed = tuple(self._server.environment())

    def arguments(self):
        return ["-r", f"objects:s3:http://127.0.0.1:{self.proxy.port}/files"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proxy.close()


class Several:
    """Several repositories in one configuration file: names and repositories."""

    def __init__(self, **repositories):
        self.file = scratch("conf") / "config.toml"
        entries = [f'[[source]]\nname = "{name}"\nurl = "{r.url() if hasattr(r, "url") else r.path}"\n'
                   f'password-file = "{r.password}"\n' for name, r in repositories.items()]
        for repository in repositories.values():
            os.chmod(repository.password, 0o600)
        self.file.write_text("\n".join(entries))

    def arguments(self):
        """What tells backupfs to open them."""
        return ["-c", self.file]


class Attempt:
    """What became of an operation: error (its number, or None), took (seconds), value."""

    def __init__(self, operation, *arguments):
        begun = time.monotonic()
        self.error = self.value = None
        try:
            self.value = operation(*arguments)
        except OSError as e:
            self.error = e.errno
        self.took = time.monotonic() - begun

    def __repr__(self):
        name = errno.errorcode.get(self.error, "success")
        return f"{name} after {self.took:.1f} s"


def listed(path):
    """Every path below a directory. An error is one; nothing is left out."""
    found = []
    todo = [pathlib.Path(path)]
    while todo:
        directory = todo.pop()
        for entry in sorted(os.scandir(directory), key=lambda e: e.name):
            found.append(os.path.relpath(entry.path, path))
            if entry.is_dir(follow_symlinks=False):
                todo.append(pathlib.Path(entry.path))
    return sorted(found)


def reads(path, size=-1):
    """A file's bytes, those that the kernel has kept left out of account."""
    with open(path, "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        parts = []
        while part := f.read(1 << 20 if size < 0 else size):
            parts.append(part)
            if size >= 0:
                break
    return b"".join(parts)


def data(files, size, seed=1):
    """A fresh directory of files with random content; gives it and {name: content}."""
    import random
    dice, source = random.Random(seed), scratch("source")
    contents = {f"dir-{n % 7}/file-{n:03}": dice.randbytes(size) for n in range(files)}
    for name, content in contents.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(content)
    return source, contents
