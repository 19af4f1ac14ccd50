"""The programs that are compared: each can be started on a dataset, asked where the files are, and stopped."""
import contextlib, os, shutil, signal, subprocess

from cases import PROJECT, children, mounts_below, run, until
from mount import binary
from restic import program, set_name

from .repositories import HOST

READY_SECONDS = 120


class Tool:
    """One mount. data: the files; dates: the directory of all dates; inner: what lies between a date and its files."""

    mounts, inner, child = True, "", None

    def __init__(self, name):
        self.name = name

    def available(self):
        """Whether this machine has it."""
        return True

    def takes(self, data):
        """Whether it can show this dataset."""
        return True

    def wait(self):
        """Waits until the files can be listed."""
        until(self.data.is_dir, READY_SECONDS, f"{self.name} is ready")
        os.listdir(self.data)

    def launch(self, bench, argv, **more):
        """Starts a program that stays in the foreground."""
        with open(bench.work / "peer.log", "wb") as log:
            self.child = subprocess.Popen([os.fspath(a) for a in argv], env={**bench.env, **more}, stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log)
        self.pid = self.child.pid

    def stop(self):
        """Unmounts and waits for the end; ends it when it does not."""
        for at in mounts_below(self.at):
            subprocess.run(["umount", at], stderr=subprocess.DEVNULL, check=False)
        try:
            self.child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.abandon()

    def abandon(self):
        """Ends it whatever it is doing."""
        for at in mounts_below(self.at):
            subprocess.run(["umount", "-l", at], check=False)
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait()


class Backupfs(Tool):
    """backupfs with options. cold: its cache directory is emptied before."""

    def __init__(self, name="backupfs", *options, cold=False):
        super().__init__(name)
        self.options, self.cold = options, cold

    def start(self, bench, data, at):
        cache = bench.work / "cache-backupfs"
        if self.cold:
            shutil.rmtree(cache, ignore_errors=True)
        options = [word for option in (*self.options, f"cache-dir={cache}") for word in ("-o", option)]
        before = children()
        run(binary(), "mount", at, *self.source(bench, data), *options, timeout=READY_SECONDS, env=bench.env)
        self.at, self.daemon = at, (children() - before).pop()
        self.pid = next(iter(children(self.daemon)), self.daemon)
        self.dates = self.set(data)
        self.data = self.dates / "latest"

    def source(self, bench, data):
        """What tells it where the snapshots are."""
        return "-r", data.quick, "--password-file", bench.password

    def set(self, data):
        """The directory of all dates."""
        return self.at / set_name(data.files, HOST)

    def stop(self):
        run(binary(), "umount", self.at)
        os.waitpid(self.daemon, 0)

    def abandon(self):
        for at in mounts_below(self.at):
            subprocess.run(["umount", "-l", at], check=False)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.daemon, signal.SIGKILL)
            os.waitpid(self.daemon, 0)


class Directory(Backupfs):
    """backupfs over the files themselves, as a directory of snapshots has them: hard links to one date."""

    def takes(self, data):
        return data.name != "dates" and data.files.is_relative_to(data.bench.work)

    def source(self, bench, data):
        top = bench.work / f"snapshots-{data.name}"
        date = top / HOST / "20260301_030000"
        if not date.exists():
            date.parent.mkdir(parents=True, exist_ok=True)
            run("cp", "-al", data.files, date)
        return "-r", f"directory:{top}/{{host}}/{{time}}"

    def set(self, data):
        return next(self.at.glob("*@+*"))


class ResticMount(Tool):
    """restic mount, with its cache kept between mounts, as its users have it."""

    def available(self):
        return shutil.which(os.environ.get("RESTIC", "restic")) is not None

    def start(self, bench, data, at):
        self.at, self.dates = at, at / "snapshots"
        self.inner = str(data.files).lstrip("/") + "/"
        self.data = self.dates / "latest" / self.inner
        self.launch(bench, [program(), "-r", data.quick, "mount", "--no-lock", at])


class RusticMount(Tool):
    """rustic mount."""

    def available(self):
        return shutil.which("rustic") is not None

    def start(self, bench, data, at):
        self.at, self.data, self.dates, self.inner = at, at, at / "dates", str(data.files).lstrip("/") + "/"
        words = ["rustic", "-r", data.quick, "--password-file", bench.password, "mount"]
        if data.name == "dates":
            self.data = self.dates
            self.launch(bench, [*words, "--path-template", "dates/{time}", at])
        else:
            self.launch(bench, [*words, at, f"latest:{data.files}"])

    def wait(self):
        until(lambda: os.path.ismount(self.at), READY_SECONDS, "rustic is ready")
        super().wait()


class KopiaMount(Tool):
    """kopia mount of the snapshot's root."""

    def available(self):
        return shutil.which("kopia") is not None

    def takes(self, data):
        return data.kopia_root is not None

    def start(self, bench, data, at):
        self.at, self.data = at, at
        config = bench.work / f"kopia-{data.name}.config"
        self.launch(bench, ["kopia", "--config-file", config, "mount", data.kopia_root, at])

    def wait(self):
        until(lambda: os.path.ismount(self.at), READY_SECONDS, "kopia is ready")
        super().wait()


class Null(Tool):
    """A file system that costs nothing: what FUSE allows at most."""

    def __init__(self, name, *options):
        super().__init__(name)
        self.options = options

    @staticmethod
    def program():
        """The example `null` of the same build as backupfs."""
        beside = binary().parent / "examples" / "null"
        return beside if beside.is_file() else PROJECT / "target" / "release" / "examples" / "null"

    def available(self):
        return os.getuid() == 0 and self.program().is_file()

    def takes(self, data):
        return data.name != "dates"

    def start(self, bench, data, at):
        self.at, self.data = at, at
        self.launch(bench, [self.program(), *self.options, data.files, at])

    def wait(self):
        until(lambda: os.path.ismount(self.at), READY_SECONDS, "the null file system is ready")
        super().wait()


class Native(Tool):
    """The files themselves, where they lie."""

    mounts, pid = False, None

    def takes(self, data):
        return data.files.exists() and data.name != "dates"

    def start(self, bench, data, at):
        self.at, self.data = at, data.files

    def stop(self):
        pass

    abandon = stop


DEFAULT, NOXATTR = Backupfs("backupfs"), Backupfs("backupfs noxattr", "noxattr")
SHARED = Backupfs("backupfs allow_other", "allow_other")
SMALL = Backupfs("backupfs memory=48M", "memory=48M")
UNCACHED = Backupfs("backupfs no cache", cold=True)
NULL, NULL_NOXATTR = Null("null"), Null("null noxattr", "--noxattr")
NULL_PUSH, NULL_NOXATTR_PUSH = Null("null", "--push"), Null("null noxattr", "--noxattr", "--push")
PEERS = (ResticMount("restic mount"), RusticMount("rustic mount"), KopiaMount("kopia mount"))
DIRECTORY, NATIVE = Directory("backupfs directory"), Native("native")
