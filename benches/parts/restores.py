"""Restores by the backup programs, of one directory or file of a dataset."""
import os, shutil, subprocess, time

from restic import program

LIMIT = 600


class Restore:
    """One program's restore. needs: the program on PATH."""

    def __init__(self, name, needs, argv):
        self.name, self.needs, self.argv = name, needs, argv

    def available(self):
        """Whether this machine has it."""
        return shutil.which(self.needs) is not None

    def takes(self, data):
        """Whether it can read this dataset."""
        return self.needs != "kopia" or data.kopia_root is not None

    def measure(self, bench, data, wanted, out):
        """Restores `wanted` ("" for all) into `out`/`wanted`; seconds, CPU seconds and peak MiB."""
        target = out / (wanted or "all")
        begun = time.perf_counter()
        argv = [os.fspath(a) for a in self.argv(bench, data, wanted, target)]
        child = subprocess.Popen(argv, env=bench.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE)
        said = child.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0, f"{self.name} ended with {child.returncode}: {said.strip()}"
        return {"steps": {"first": seconds}, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss / 1024}


def _restic(_bench, data, wanted, target):
    words = [program(), "-r", data.quick, "restore", "-q", "--no-lock"]
    if (data.files / wanted).is_file():  # it restores parts of a snapshot by directories only
        return [*words, f"latest:{data.files}", "--include", f"/{wanted}", "--target", target.parent]
    return [*words, f"latest:{data.files / wanted}", "--target", target]


def _rustic(bench, data, wanted, target):
    return ["rustic", "-r", data.quick, "--password-file", bench.password, "--no-progress", "restore",
            f"latest:{data.files / wanted}", target]


def _kopia(bench, data, wanted, target):
    root = f"{data.kopia_root}/{wanted}".rstrip("/")
    return ["kopia", "--config-file", bench.work / f"kopia-{data.name}.config", "restore", "--no-progress", root, target]


RESTORES = (Restore("restic restore", os.environ.get("RESTIC", "restic"), _restic), Restore("rustic restore", "rustic", _rustic),
            Restore("kopia restore", "kopia", _kopia))
