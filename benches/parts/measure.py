"""One measurement: a fresh mount, dropped caches, a script with a time limit, and what it cost the server."""
import filecmp, mmap, os, pathlib, signal, subprocess, tempfile, time

from cases import run

TICKS = os.sysconf("SC_CLK_TCK")
# What took longer is not repeated with warm caches.
REPEATED = 5.0


# What a measurement may need of fresh memory, copies in memory included.
TOUCHED = min(2 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8)


class TooSlow(Exception):
    """The time limit was reached."""


def drop_caches():
    """Empties the kernel's caches, where one may, and has the memory that they had at hand: to a virtual machine its host
    may have to give it anew, which takes seconds for a gigabyte and says nothing about who asked for it."""
    if os.getuid() == 0:
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        mmap.mmap(-1, TOUCHED, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def seconds_of(pid):
    """CPU time a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_of(pid):
    """The most memory a process had, in MiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def shell(script, words, limit, give_up, env):
    """Runs a line of shell with words as $1 and so on; gives (seconds, what it printed). At the limit, give_up() is to
    free whoever waits for a mount."""
    begun = time.perf_counter()
    child = subprocess.Popen(["sh", "-ec", script, "sh", *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, start_new_session=True, env=env)
    try:
        out, err = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        give_up()
        child.communicate()
        raise TooSlow from None
    seconds = time.perf_counter() - begun
    assert child.returncode == 0, f"{script}: {err.decode(errors='replace')[-300:]}"
    return seconds, out.decode()


def same(left, right, times, what):
    """Fails unless two files or trees have equal names and contents, and equal modification times where asked."""
    if left.is_file():
        assert filecmp.cmp(left, right, shallow=False), f"{what}: contents differ"
        return
    run("diff", "-r", "--no-dereference", left, right, timeout=600)
    for at, _, files in os.walk(left) if times else ():
        for name in files:
            path = pathlib.Path(at, name)
            copied = right / path.relative_to(left)
            assert path.lstat().st_mtime_ns == copied.lstat().st_mtime_ns, f"{what}: the time of {path} differs"


def restore(bench, tool, workload, data, check):
    """One round of a restore of what a workload reads."""
    with _out(bench, workload) as name:
        out = pathlib.Path(name)
        drop_caches()
        found = tool.measure(bench, data, workload.restored, out)
        if check:
            for name in workload.compared:
                same(data.files / name, out / (name or "all"), False, f"{tool.name}: {workload.title}")
    return found


def _out(bench, workload):
    return tempfile.TemporaryDirectory(dir=bench.work if workload.disk else "/dev/shm", prefix="bench-out-")


def mounted(bench, tool, workload, data, check):
    """One round of a workload with a tool: seconds by step (None at the limit), CPU seconds and peak MiB of the server."""
    at, found = pathlib.Path(tempfile.mkdtemp(dir=bench.work, prefix="mnt-")), {"steps": {}}
    drop_caches()
    begun = time.perf_counter()
    tool.start(bench, data, at)
    try:
        if tool.mounts:
            tool.wait()
        found["steps"]["mount" if workload.script else "first"] = time.perf_counter() - begun
        if workload.script:
            _script(bench, tool, workload, data, check, found)
        if tool.pid:
            found.update(cpu=seconds_of(tool.pid), rss=peak_of(tool.pid))
        tool.stop()
    except TooSlow:
        found["steps"]["first"] = None
    finally:
        tool.abandon()
        at.rmdir()
    return found


def _script(bench, tool, workload, data, check, found):
    where = tool.dates if workload.data == "dates" else tool.data
    for step in ("first", "again") if workload.again else ("first",):
        if step == "again" and found["steps"]["first"] > REPEATED:
            break
        if step == "first":
            drop_caches()
            if workload.warm:
                shell('find "$1" -type f -exec cat {} + >/dev/null', (data.files,), bench.limit(workload), tool.abandon, bench.env)
        with _out(bench, workload) as name:
            out = pathlib.Path(name)
            seconds, said = shell(workload.script, (where, out, tool.inner), bench.limit(workload), tool.abandon, bench.env)
            found["steps"][step] = float(said) if workload.own_clock else seconds
            if check and step == "first" and not tool.name.startswith("null"):
                for name in workload.compared:
                    # Not every tool keeps nanoseconds; ours must.
                    times = workload.times and tool.name.startswith("backupfs")
                    same(data.files / name, out / (name or "all"), times, f"{tool.name}: {workload.title}")
