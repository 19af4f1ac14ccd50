"""Cases of a black-box test script: declared with @case, run one after the other, reported a line each.

A script imports this, declares its cases and ends with main(). Cases marked for an ordinary user run again in a
child that has uid 1000, its own mount namespace and a /dev/fuse that everybody may open. Standard library only.
"""
import atexit, concurrent.futures, ctypes, os, pathlib, re, shutil, signal, subprocess, sys, tempfile, time, traceback

PROJECT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = PROJECT / "tests" / "fixtures"
USER = 1000  # the ordinary user: an id that owns nothing here
ORDINARY = "--as-ordinary-user"
ALONE = "--alone"  # what follows is one title, whole
CASE_SECONDS = 180
LONG = os.environ.get("LONG") == "1"

_cases = []
_scratch = None


class Skip(Exception):
    """The machine lacks what the case needs."""


class Result:
    """How a command ended: rc (negative: the signal), out and err as bytes."""

    def __init__(self, rc, out, err):
        self.rc, self.out, self.err = rc, out, err
        self.text, self.message = out.decode(errors="replace"), err.decode(errors="replace")


def case(title, user="root", needs=()):
    """Declares a case. user: root, ordinary or both; needs: programs that have to be on PATH."""
    def declare(function):
        _cases.append((title, user, needs, function))
        return function
    return declare


def run(*argv, timeout=60, check=True, user=None, cwd=None, env=None, stdin=None):
    """Runs a command to its end, never longer than timeout seconds; check: a non-zero end fails the case."""
    argv = [os.fspath(a) for a in argv]
    if user is not None:
        argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"] + argv
    child = subprocess.Popen(argv, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             cwd=cwd, env=env, start_new_session=True)
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        raise AssertionError(f"no end after {timeout} s: {show(argv)}") from None
    result = Result(child.returncode, out, err)
    if check and result.rc != 0:
        said = (result.message.strip().splitlines() or ["(nothing on stderr)"])[-1]
        raise AssertionError(f"rc {result.rc} from {show(argv)}: {said[:400]}")
    return result


def show(argv):
    """A command as one short line."""
    line = " ".join(map(str, argv))
    return line if len(line) < 160 else line[:157] + "..."


def equal(found, expected, what):
    """Fails unless both are equal."""
    assert found == expected, f"{what}: found {found!r:.300}, expected {expected!r:.300}"


def until(condition, seconds, what):
    """Waits until condition() is true; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


def scratch(name="work"):
    """A fresh directory that disappears with the test, with whatever is mounted below it."""
    return pathlib.Path(tempfile.mkdtemp(prefix=name + "-", dir=_base()))


def _base():
    global _scratch
    if _scratch is None:
        _scratch = tempfile.mkdtemp(prefix="backupfs-test-")
        os.chmod(_scratch, 0o755)
        atexit.register(_clean, _scratch)
    return _scratch


def mounts_below(directory):
    """Mountpoints at or below a directory, the deepest first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            at = line.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
            if at == str(directory) or at.startswith(str(directory) + "/"):
                found.append(at)
    return sorted(found, key=len, reverse=True)


def _clean(directory):
    for at in mounts_below(directory):
        if subprocess.run(["umount", "-l", at], stderr=subprocess.DEVNULL, check=False).returncode:
            subprocess.run(["fusermount3", "-uz", at], stderr=subprocess.DEVNULL, check=False)
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


def adopt_orphans():
    """Makes this process the parent of what its commands leave running, so that no daemon escapes the clean-up."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def children(of=None):
    """Processes whose parent is this one, or the one given, and that have not ended."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as f:
                    state, parent = f.read().rsplit(b") ", 1)[1].split()[:2]
            except OSError:
                continue
            if int(parent) == (of or os.getpid()) and state != b"Z":
                found.add(int(entry))
    return found


def _on_alarm(_signal, _frame):
    raise AssertionError(f"the case took longer than {CASE_SECONDS} s")


def _run_case(title, needs, function, count):
    mark = " (u)" if os.getuid() else ""
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.alarm(CASE_SECONDS)
    try:
        for program in needs:
            if not shutil.which(program):
                raise Skip(f"no {program} on PATH")
        function()
        count["passed"] += 1
        print(f"ok {title}{mark}", flush=True)
    except Skip as reason:
        count["skipped"] += 1
        print(f"SKIPPED {title}{mark}: {reason}", flush=True)
    except Exception as error:  # a test that breaks is a test that fails
        count["failed"] += 1
        print(f"not ok {title}{mark}: {error}", flush=True)
        if not isinstance(error, AssertionError) or os.environ.get("TRACE"):
            traceback.print_exc()
    finally:
        signal.alarm(0)


def main(at_once=1):
    """Runs the cases of this script, as root and as an ordinary user, and exits 1 when one failed. at_once: how many beside each
    other, for those that mostly wait. Arguments: parts of titles, to run only those."""
    wanted = [a for a in sys.argv[1:] if a not in (ORDINARY, ALONE)]
    count = {"passed": 0, "failed": 0, "skipped": 0}
    root = os.getuid() == 0
    meets = (lambda title: title in wanted) if ALONE in sys.argv else (lambda title: not wanted or any(w in title for w in wanted))
    chosen = [c for c in _cases if meets(c[0])]
    if at_once > 1 and len(chosen) > 1 and ORDINARY not in sys.argv:
        _beside_each_other([title for title, *_ in chosen], at_once, count)
        print("{passed} passed, {failed} failed, {skipped} skipped".format(**count), flush=True)
        sys.exit(1 if count["failed"] else 0)
    adopt_orphans()
    for title, user, needs, function in chosen:
        if (root and user == "ordinary") or (ORDINARY in sys.argv and user == "root"):
            continue
        if not root and user == "root":
            count["skipped"] += 1
            print(f"SKIPPED {title}: needs root")
        else:
            _run_case(title, needs, function, count)
    ordinary = [c for c in chosen if c[1] in ("ordinary", "both")]
    if root and ordinary:
        alone = [ALONE] if ALONE in sys.argv else []
        for key, number in _as_ordinary_user(alone + wanted, len(ordinary)).items():
            count[key] += number
    if ORDINARY not in sys.argv:
        print("{passed} passed, {failed} failed, {skipped} skipped".format(**count), flush=True)
    sys.exit(1 if count["failed"] else 0)


def _beside_each_other(titles, at_once, count):
    """Runs each case in a process of its own, so many at a time; adds to count."""
    def one(title):
        begun = time.monotonic()
        child = subprocess.run([sys.executable, sys.argv[0], ALONE, title], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                               errors="replace", check=False)
        *lines, last = child.stdout.splitlines() or [""]
        found = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped", last)
        if not found or (child.returncode and found[2] == "0"):
            return [*lines, last, f"not ok {title}: broke off with {child.returncode}"], (0, 1, 0)
        return [*lines, f"# {time.monotonic() - begun:.0f} s"], map(int, found.groups())

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for lines, numbers in pool.map(one, titles):
            print(*lines, sep="\n", flush=True)
            for key, number in zip(count, numbers):
                count[key] += number


# First thing in a mount namespace: the mounts of tests that run beside this one must not live on in here.
FORGET_MOUNTS = "awk '$3 == \"fuse.backupfs\" { print $2 }' /proc/mounts | xargs -r umount -l"

# Run as root in a mount namespace of its own: $1 stage, $2 project, $3 binary, $4 uid, then the command.
_BECOME_ORDINARY = FORGET_MOUNTS + """
set -e
stage=$1 project=$2 binary=$3 uid=$4; shift 4
mount -t tmpfs -o mode=755 tmpfs "$stage"
mkdir "$stage/project" "$stage/home" && chown "$uid" "$stage/home"
mount --bind "$project" "$stage/project"
cp "$binary" "$stage/backupfs"
mknod -m 666 "$stage/fuse" c 10 229 && mount --bind "$stage/fuse" /dev/fuse
if ! getent passwd "$uid" >/dev/null; then
    { cat /etc/passwd; echo "tester:x:$uid:$uid::$stage/home:/bin/sh"; } >"$stage/passwd"
    mount --bind "$stage/passwd" /etc/passwd
fi
cd "$stage/home"
echo ready
exec env -u XDG_RUNTIME_DIR HOME="$stage/home" TMPDIR="$stage/home" BACKUPFS="$stage/backupfs" \
    setpriv --reuid="$uid" --regid="$uid" --clear-groups -- "$@"
"""


def _as_ordinary_user(wanted, cases):
    """Runs this script again as USER; gives its counts."""
    from mount import binary
    stage = scratch("ordinary")
    script = pathlib.Path(sys.argv[0]).resolve().relative_to(PROJECT)
    child = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BECOME_ORDINARY, "sh", stage, PROJECT, binary(),
         str(USER), "python3", stage / "project" / script, ORDINARY, *wanted], stdout=subprocess.PIPE, text=True)
    count, ready = {"passed": 0, "failed": 0, "skipped": 0}, False
    for line in child.stdout:
        if line == "ready\n":
            ready = True
            continue
        print(line, end="", flush=True)
        for start, key in (("ok ", "passed"), ("not ok ", "failed"), ("SKIPPED ", "skipped")):
            count[key] += line.startswith(start)
    child.wait()
    if not ready:
        print(f"SKIPPED {cases} cases as an ordinary user: no mount namespace or no mknod here")
        count["skipped"] += cases
    elif sum(count.values()) < cases:
        print(f"not ok: {cases - sum(count.values())} cases as an ordinary user did not run")
        count["failed"] += cases - sum(count.values())
    return count
