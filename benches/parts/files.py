"""The files that are backed up: made from a fixed seed, or found on the machine."""
import os, pathlib, random, shutil, subprocess


def _small(made, rnd, many, small, directories):
    """`many` tiny files in one directory and `small` ones of 4 KiB in several."""
    (made / "many").mkdir(parents=True)
    for i in range(int(many)):
        (made / "many" / f"file-{i:06}").write_bytes(b"%d" % i)
    for i in range(int(small)):
        directory = made / "small" / f"{i % directories:03}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file-{i:06}").write_bytes(rnd.randbytes(4096))


def make_main(base, scale):
    """Many files in one directory, small files in many, and two large files; written beside, then moved into place."""
    rnd, made = random.Random(1), base.with_name(base.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    _small(made, rnd, 50_000 * scale, 20_000 * scale, 200)
    for name, unique in (("half", 1), ("random", 2)):  # half: every second 512 bytes are one letter
        with open(made / name, "wb") as f:
            for _ in range(max(1, int(512 * scale))):
                if unique == 2:
                    f.write(rnd.randbytes(1 << 20))
                else:
                    f.write(b"".join(rnd.randbytes(512) + bytes([rnd.randrange(256)]) * 512 for _ in range(1024)))
    made.rename(base)


def make_remote(base, scale):
    """As many files in one directory, fewer small ones in 20, one large file: what crosses a network in seconds."""
    rnd, made = random.Random(3), base.with_name(base.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    _small(made, rnd, 50_000 * scale, 2_000 * scale, 20)
    with open(made / "big", "wb") as f:
        for _ in range(max(1, int(128 * scale))):
            f.write(rnd.randbytes(1 << 20))
    made.rename(base)


def make_long(base, scale):
    """300,000 files of 0.2 to 8 KiB, 300 in a directory; half of each file's bytes are words, half noise."""
    rnd, made = random.Random(2), base.with_name(base.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    words = b"the quick brown fox jumps over the lazy dog and runs away again; " * 80
    for i in range(int(300_000 * scale)):
        directory = made / f"{i // 30_000:02}" / f"{i // 300:04}"
        if i % 300 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        size = rnd.randrange(200, 8192)
        (directory / f"file-{i:06}").write_bytes(rnd.randbytes(size // 2) + words[:size - size // 2])
    made.rename(base)


def toolchain():
    """The root of a language's toolchain on this machine, or None: Go's, else Rust's, else Python's, else C headers."""
    for argv in (["go", "env", "GOROOT"], ["rustc", "--print", "sysroot"]):
        if shutil.which(argv[0]):
            found = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
            if found and pathlib.Path(found).is_dir():
                return pathlib.Path(found)
    candidates = [pathlib.Path("/usr/local/go"), pathlib.Path(os.__file__).parent, pathlib.Path("/usr/include")]
    return next((c for c in candidates if c.is_dir()), None)


def measured(base):
    """(files, bytes) below a directory; links count as files."""
    count = size = 0
    for at, _, names in os.walk(base):
        for name in names:
            count, size = count + 1, size + os.lstat(os.path.join(at, name)).st_size
    return count, size
