"""The repositories that are measured: of each set of files one that restic writes and one that Kopia writes.

Key derivation (scrypt) is the same work for every tool and can be longer than a mount, so that mounts of restic's
format are measured on a hard-linked copy whose key costs nothing. What the real key costs is measured by itself.
"""
import base64, hashlib, json, os, pathlib, shutil, time

from cases import run
from restic import program
from written import Key, Written

PASSWORD = "a benchmark's password"
HOST = "bench"
DAYS = 365


class Data:
    """Files and their repositories: `restic`, `quick` (the same, with a cheap key) and `kopia` (None without it)."""

    def __init__(self, bench, name, files):
        self.bench, self.name, self.files = bench, name, files
        self.restic, self.quick = bench.work / f"repository-{name}", bench.work / f"quick-{name}"
        self.kopia, self.kopia_root = bench.work / f"kopia-{name}", None

    def prepare(self):
        """Makes what is not there yet."""
        self.prepare_restic()
        if shutil.which("kopia"):
            self.prepare_kopia()

    def prepare_restic(self):
        """Makes restic's repository, and the one with a cheap key."""
        if not self.restic.exists():
            self.bench.restic(self.restic, "init")
            self.bench.restic(self.restic, "backup", "-q", "--host", HOST, self.files)
        if not self.quick.exists():
            cheapen(self.bench, self.restic, self.quick)

    def prepare_kopia(self):
        """Makes Kopia's repository, connects to it, and finds the root of the newest snapshot."""
        config, who = self.bench.work / f"kopia-{self.name}.config", ["--override-hostname", HOST, "--override-username", "root"]
        kopia = lambda *words: self.bench.kopia(config, *words)
        if not self.kopia.exists():
            kopia("repository", "create", "filesystem", "--path", self.kopia, *who)
            kopia("snapshot", "create", self.files, "--no-progress")
        elif not config.exists():
            kopia("repository", "connect", "filesystem", "--path", self.kopia, *who)
        snapshots = json.loads(kopia("snapshot", "list", "--json").out)
        self.kopia_root = snapshots[-1]["rootEntry"]["obj"]


class Dates:
    """A repository of 365 dates in which one file of many changes a day; made by hand, in seconds."""

    kopia_root = None

    def __init__(self, bench):
        self.bench, self.name, self.restic = bench, "dates", None
        self.quick, self.files = bench.work / "quick-dates", pathlib.Path("/data")

    def prepare(self):
        """Makes it if it is not there."""
        if self.quick.exists():
            return
        made = Written()
        fill = lambda what: [made.file(f"{what}-{i:03}", b"%d" % i) for i in range(100)]
        for day in range(DAYS):
            changed = made.file("changed", b"on day %d" % day)
            file = made.file("file", b"the file, version %d" % (day // 30))
            c = made.directory("c", [file, *fill("c")])
            b = made.directory("b", [c, *fill("b")] + ([changed] if day % 7 == 0 else []))
            a = made.directory("a", [b, *fill("a")] + ([changed] if day % 2 == 0 else []))
            when = time.strftime("%Y-%m-%dT03:00:00Z", time.gmtime(1_700_000_000 + day * 86_400))
            made.snapshot([a, changed, *fill("root")], time=when, host=HOST)
        made.finish()
        b64 = lambda raw: base64.b64encode(raw).decode()
        master = {"mac": {"k": b64(made.key.k), "r": b64(made.key.r)}, "encrypt": b64(made.key.encrypt)}
        only_key(made.path, json.dumps(master).encode())
        shutil.copytree(made.path, self.quick)


def cheapen(bench, repository, copy):
    """Copies a repository by hard links and gives it one key of the same password with scrypt's least parameters."""
    run("cp", "-al", repository, copy)
    only_key(copy, bench.restic(repository, "cat", "masterkey", "--no-lock").out)


def only_key(repository, master):
    """Makes a key file that costs nothing to open the only one. master: the repository's key as restic prints it, JSON."""
    for old in (repository / "keys").iterdir():
        old.unlink()
    salt = os.urandom(64)
    derived = Key(hashlib.scrypt(PASSWORD.encode(), salt=salt, n=2, r=8, p=1, dklen=64))
    b64 = lambda raw: base64.b64encode(raw).decode()
    text = json.dumps({"created": "2024-01-01T00:00:00Z", "username": "bench", "hostname": HOST, "kdf": "scrypt", "N": 2,
                       "r": 8, "p": 1, "salt": b64(salt), "data": b64(derived.seal(master))}).encode()
    (repository / "keys" / hashlib.sha256(text).hexdigest()).write_bytes(text)


def derivation(repository):
    """(seconds, parameters) of deriving a repository's key: one lane after the other, as every tool but ours does."""
    fields = json.loads(next((repository / "keys").iterdir()).read_text())
    return scrypt_seconds(fields["N"], fields["r"], fields["p"])


def scrypt_seconds(n, r, p):
    """(seconds, parameters) of one derivation."""
    begun = time.perf_counter()
    hashlib.scrypt(b"x", salt=b"y" * 64, n=n, r=r, p=p, dklen=64, maxmem=256 * n * r * p + (64 << 20))
    return time.perf_counter() - begun, f"N={n} r={r} p={p}"
