"""Another time of day: for a test and what it starts, within a mount namespace of their own. Needs root and a C compiler.

    import clock
    clock.enter()                # first thing in a script: it starts again, under a clock that can be set
    clock.set_ahead(3600)        # from now on an hour fast, for programs that were started already too

What is preloaded into every program adds seconds to what the C library says of the time of day; other clocks go on as they
were, and programs that ask the kernel themselves (those written in Go) have the true time. Standard library only.
"""
import atexit, mmap, os, pathlib, shutil, struct, subprocess, sys, tempfile

from cases import FORGET_MOUNTS, Skip

MARK = "BACKUPFS_TEST_CLOCK"

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void)
{
    static volatile long *seconds;
    if (!seconds) {
        int fd = open(AHEAD, O_RDONLY | O_CLOEXEC);
        void *at = fd < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
        if (fd >= 0)
            close(fd);
        if (at == MAP_FAILED)
            return 0;
        seconds = at;
    }
    return *seconds;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int failed = syscall(SYS_clock_gettime, clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *time, void *zone)
{
    int failed = syscall(SYS_gettimeofday, time, zone);
    if (!failed)
        time->tv_sec += ahead();
    return failed;
}
"""

# $1: a copy of /etc that names what is preloaded.
_ENTER = FORGET_MOUNTS + """
set -e
mount --bind "$1" /etc
shift
exec "$@"
"""


def enter():
    """Starts the script again under a clock that can be set, unless it runs under one. What cannot be is told by needed()."""
    base = os.environ.get(MARK)
    if base:
        return atexit.register(shutil.rmtree, base, ignore_errors=True)
    if os.getuid() != 0 or not shutil.which("cc"):
        return None
    base = pathlib.Path(tempfile.mkdtemp(prefix="backupfs-clock-"))
    base.chmod(0o755)
    (base / "ahead").write_bytes(struct.pack("l", 0))
    (base / "clock.c").write_text(SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", f'-DAHEAD="{base}/ahead"', "-o", base / "clock.so", base / "clock.c"], check=True)
    shutil.copytree("/etc", base / "etc", symlinks=True)
    (base / "etc" / "ld.so.preload").write_text(f"{base}/clock.so\n")
    os.environ[MARK] = str(base)
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh", base / "etc", sys.executable,
                          *sys.argv])


def set_ahead(seconds):
    """How far the clock is ahead of the true time from now on; behind, when it is less than nothing."""
    if MARK not in os.environ:
        raise Skip("another time of day needs root and cc")
    with open(pathlib.Path(os.environ[MARK]) / "ahead", "r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        shared[:] = struct.pack("l", seconds)
