"""What benches/remote measures: datasets in buckets, and the programs that read them through a proxy."""
import os, pathlib, shutil, tempfile, time

from cases import run
from restic import program

from . import files, measure, repositories, tools


class Bench:
    """A server, the way to it, and what lies in its buckets: `main` and `dates`, and the files of `main` as objects. Directories and environment as the tools
    of benches/compare expect them."""

    def __init__(self, work, scale, server, proxy):
        self.work, self.server, self.proxy = work, server, proxy
        self.password, home = work / "password", work / "home"
        self.password.write_text(repositories.PASSWORD)
        home.mkdir(exist_ok=True)
        self.env = {**os.environ, **server.environment(), "RESTIC_PASSWORD_FILE": str(self.password), "HOME": str(home),
                    "XDG_CACHE_HOME": str(home / "cache"), "LC_ALL": "C.UTF-8"}
        base = work / f"remote-{scale}"
        if not base.exists():
            files.make_remote(base, scale)
        self.main, self.dates = repositories.Data(self, f"remote-{scale}", base), repositories.Dates(self)
        self.main.prepare_restic()
        self.dates.prepare()
        for data in (self.main, self.dates):
            shutil.copytree(data.quick, server.bucket("bench") / data.name)
            data.quick = f"s3:http://127.0.0.1:{proxy.port}/bench/{data.name}"

        shutil.copytree(base, server.bucket("files"), dirs_exist_ok=True)

    @property
    def round_trip(self):
        """Seconds."""
        return self.proxy.round_trip

    def restic(self, repository, *words):
        """Runs restic on a repository to its end."""
        return run(program(), "-r", repository, *words, env=self.env, timeout=1800)


class Mounted:
    """A mount. warm: what its program keeps on disk is that of the same work just before; else there is nothing."""

    def __init__(self, name, tool, caches, warm=False):
        self.name, self.tool, self.caches, self.warm = name, tool, caches, warm

    def takes(self, data, _work):
        """Whether it can do this work."""
        return self.tool.takes(data)

    def measure(self, bench, data, script, check):
        """Seconds, requests and bytes of one run in a fresh mount."""
        shutil.rmtree(bench.work / self.caches, ignore_errors=True)
        if self.warm:
            self._once(bench, data, script, False)
        return self._once(bench, data, script, check)

    def _once(self, bench, data, script, check):
        at = pathlib.Path(tempfile.mkdtemp(dir=bench.work, prefix="mnt-"))
        measure.drop_caches()
        before, begun = (bench.proxy.requests, bench.proxy.bytes), time.perf_counter()
        try:
            self.tool.start(bench, data, at)
            self.tool.wait()
            if script:
                before, begun = (bench.proxy.requests, bench.proxy.bytes), time.perf_counter()
                where = self.tool.dates if data is bench.dates else self.tool.data
                with tempfile.TemporaryDirectory(dir="/dev/shm") as out:
                    measure.shell(script, (where, out, self.tool.inner), LIMIT, self.tool.abandon, bench.env)
                    seconds = time.perf_counter() - begun
                    if check:
                        measure.same(data.files / "small", pathlib.Path(out) / "small", self.tool is not OBJECTS, self.name)
            else:
                seconds = time.perf_counter() - begun
            found = {"seconds": seconds, "requests": bench.proxy.requests - before[0], "bytes": bench.proxy.bytes - before[1]}
            self.tool.stop()
            return found
        except measure.TooSlow:
            return {"seconds": float("inf"), "requests": float("inf"), "bytes": float("inf")}
        finally:
            self.tool.abandon()
            at.rmdir()


class Objects(tools.Backupfs):
    """backupfs over the files as objects of a bucket; their times are those at which they were put there."""

    def takes(self, data):
        return data.name != "dates"

    def source(self, bench, data):
        return "-r", f"objects:s3:http://127.0.0.1:{bench.proxy.port}/files"

    def set(self, data):
        return next(self.at.glob("*@+*"))


class Copied:
    """rclone's copy of the small files or the big one out of a bucket, 64 at a time."""

    name, wanted = "rclone copy", {"cp": "small", "dd": "big"}

    def takes(self, _data, work):
        """Whether it can do this work."""
        return shutil.which("rclone") and any(f"`{what}" in work for what in self.wanted)

    def measure(self, bench, _data, script, check):
        """Seconds, requests and bytes."""
        wanted = next(name for what, name in self.wanted.items() if script.startswith(what))
        remote = f":s3,provider=Other,endpoint='http://127.0.0.1:{bench.proxy.port}',env_auth=true:files/{wanted}"
        # rclone takes no other authorities from the environment, and stops where there are any.
        env = {name: value for name, value in bench.env.items() if name != "AWS_CA_BUNDLE"}
        measure.drop_caches()
        before, begun = (bench.proxy.requests, bench.proxy.bytes), time.perf_counter()
        with tempfile.TemporaryDirectory(dir="/dev/shm") as out:
            run("rclone", "--config", os.devnull, "copy", "--quiet", "--transfers", "64", remote, f"{out}/{wanted}", env=env,
                timeout=1800)
            seconds = time.perf_counter() - begun
            if check:
                measure.same(bench.main.files / wanted, pathlib.Path(out) / wanted, False, self.name)
        return {"seconds": seconds, "requests": bench.proxy.requests - before[0], "bytes": bench.proxy.bytes - before[1]}


class Restored:
    """restic's restore of the small files or the big one."""

    name, wanted = "restic restore", {"cp": "small", "dd": "big"}

    def takes(self, _data, work):
        """Whether it can do this work."""
        return any(f"`{what}" in work for what in self.wanted)

    def measure(self, bench, data, script, check):
        """Seconds, requests and bytes, with an empty cache."""
        wanted = next(name for what, name in self.wanted.items() if script.startswith(what))
        shutil.rmtree(bench.work / "home" / "cache", ignore_errors=True)
        measure.drop_caches()
        before, begun = (bench.proxy.requests, bench.proxy.bytes), time.perf_counter()
        with tempfile.TemporaryDirectory(dir="/dev/shm") as out:
            bench.restic(data.quick, "restore", "-q", "--no-lock", f"latest:{data.files}", "--include", f"/{wanted}", "--target", out)
            seconds = time.perf_counter() - begun
        return {"seconds": seconds, "requests": bench.proxy.requests - before[0], "bytes": bench.proxy.bytes - before[1]}


LIMIT = 60
OBJECTS = Objects()
TOOLS = (Mounted("backupfs", tools.Backupfs(), "cache-backupfs"),
         Mounted("backupfs warm", tools.Backupfs(), "cache-backupfs", warm=True),
         Mounted("backupfs noxattr", tools.NOXATTR, "cache-backupfs"),
         Mounted("backupfs bucket", OBJECTS, "cache-backupfs"), Mounted("backupfs bucket warm", OBJECTS, "cache-backupfs", warm=True),
         Mounted("restic mount", tools.ResticMount("restic mount"), "home/cache"), Restored(), Copied())
