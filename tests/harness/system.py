"""A machine on which the program is installed: a mount namespace of its own with the real /usr, and a /usr/bin, /usr/sbin, /etc and /dev
whose changes nobody else sees.

A script calls private() before its cases. In them configured() writes /etc/backupfs, and mount(8), automount and whatever
else is installed find the program where a package would put it. Standard library only.
"""
import atexit, os, pathlib, shutil, socket, subprocess, sys, tempfile, threading, time

from cases import FORGET_MOUNTS, Skip, mounts_below, run, until
from mount import binary, fixture

ETC = pathlib.Path("/etc/backupfs")
_STAGE = "BACKUPFS_TEST_STAGE"

# $1 the stage, $2 backupfs, $3 mount.backupfs, then the command. Without namespaces or overlays the command finds no stage.
_INSTALL = FORGET_MOUNTS + """
stage=$1 program=$2 helper=$3; shift 3
install_here() {
    mount -t tmpfs -o mode=755 tmpfs "$stage" &&
    for place in usr/bin usr/sbin etc; do
        mkdir -p "$stage/$place/new" "$stage/$place/work" &&
        mount -t overlay -o "lowerdir=/$place,upperdir=$stage/$place/new,workdir=$stage/$place/work" overlay "/$place" || return
    done
    cp "$program" /usr/bin/backupfs && cp "$helper" /usr/sbin/mount.backupfs && ln -s mount.backupfs /usr/sbin/mount.fuse.backupfs &&
    { getent passwd 1000 >/dev/null || echo "tester:x:1000:1000::/nonexistent:/bin/sh" >>/etc/passwd; } &&
    rm -rf /etc/backupfs && mkdir -p /etc/backupfs "$stage/dev" && : >/etc/fstab &&
    mount -t tmpfs -o mode=755 tmpfs "$stage/dev" && cd "$stage/dev" && mkdir shm pts &&
    mknod -m 666 null c 1 3 && mknod -m 666 zero c 1 5 && mknod -m 666 full c 1 7 && mknod -m 666 random c 1 8 &&
    mknod -m 666 urandom c 1 9 && mknod -m 666 tty c 5 0 && mknod -m 666 fuse c 10 229 && ln -s /proc/self/fd fd && ln -s fd/0 stdin &&
    ln -s fd/1 stdout && ln -s fd/2 stderr && { [ ! -e /dev/autofs ] || mknod autofs c 10 235; } && cd / &&
    mount --move "$stage/dev" /dev && chmod 755 "$stage"
}
install_here >&2 && export BACKUPFS_TEST_STAGE="$stage" || export BACKUPFS_TEST_STAGE=none
exec "$@"
"""


def helper():
    """mount.backupfs, as it was built."""
    built = binary().parent / "mount-backupfs"
    if not built.is_file():
        raise SystemExit(f"no {built}: run cargo build")
    return built


def private():
    """Starts this script anew on such a machine, unless it is there already."""
    if os.getuid() or _STAGE in os.environ:
        if os.environ.get(_STAGE, "none") != "none":
            atexit.register(_leave, os.environ[_STAGE])
        return
    stage = tempfile.mkdtemp(prefix="backupfs-stage-")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _INSTALL, "sh", stage, binary(), helper(), sys.executable,
               pathlib.Path(sys.argv[0]).resolve(), *sys.argv[1:]]
    code = subprocess.run(command, check=False).returncode
    shutil.rmtree(stage, ignore_errors=True)
    sys.exit(code)


def _leave(stage):
    subprocess.run(["umount", "-l", stage], stderr=subprocess.DEVNULL, check=False)


def configure():
    """Begins with an empty /etc/backupfs."""
    if os.environ.get(_STAGE, "none") == "none":
        raise Skip("no mount namespaces or overlays here")
    shutil.rmtree(ETC, ignore_errors=True)
    ETC.mkdir()


def source(name, repository=None, **more):
    """A [[source]] of a fixture, whose password lies below /etc/backupfs."""
    repository = repository or fixture("restic-v2")
    secrets = ETC / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    secret = secrets / name
    secret.write_bytes(repository.password.read_bytes())
    secret.chmod(0o600)
    said = {"name": name, "url": str(repository.path), "password-file": str(secret), **more}
    return "[[source]]\n" + "".join(f"{key} = {value!r}\n" for key, value in said.items())


# Seen by everybody, without a cache on disk.
GENERAL = "cache-dir = 'none'\nallow_other = true\n"


def configured(name, general=GENERAL, **more):
    """A configuration of a fixture under this name, and of others (name="fixture")."""
    configure()
    others = [source(other, fixture(what)) for other, what in more.items()]
    (ETC / "config.toml").write_text(general + source(name) + "".join(others))


def mount8(*argv, env=None, **more):
    """Runs mount(8)."""
    return run("mount", *argv, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} if env is None else env, **more)


def shown(at):
    """Type, source and options in the mount table; None where nothing is mounted."""
    with open("/proc/self/mounts", encoding="utf-8") as lines:
        found = [line.split() for line in lines if line.split()[1] == str(at)]
    return (found[-1][2], found[-1][0], set(found[-1][3].split(","))) if found else None


def unmounted(at):
    """Unmounts with umount(8); nothing of it may remain."""
    run("umount", at)
    assert not mounts_below(at), f"still mounted: {at}"
    until(lambda: not daemons(at), 5, f"the daemon of {at} has ended")


def servers(at, verbs=("serve",)):
    """The processes that serve mounts at or below a place: their ids."""
    found, at = [], os.fsencode(at)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                words = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            except OSError:
                continue
            if words[0] == b"backupfs" and words[1:2] and words[1].decode() in verbs and (words[-1] == at or words[-1].startswith(at + b"/")):
                found.append(int(entry))
    return found


def daemons(at):
    """The same, with those that keep rights for them."""
    return servers(at, ("serve", "broker"))


class Syslog:
    """with Syslog() as log: … log.lines() is what was sent to /dev/log."""

    def __init__(self):
        self._socket, self._lines = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), []

    def __enter__(self):
        pathlib.Path("/dev/log").unlink(missing_ok=True)
        self._socket.bind("/dev/log")
        os.chmod("/dev/log", 0o666)
        self._socket.settimeout(0.1)
        self._ended = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def _listen(self):
        while not self._ended:
            try:
                self._lines.append(self._socket.recv(65536).decode(errors="replace"))
            except TimeoutError:
                pass

    def __exit__(self, *_):
        self._ended = True
        self._thread.join()
        self._socket.close()
        os.unlink("/dev/log")

    def lines(self):
        """What came so far."""
        time.sleep(0.2)  # one turn of whoever listens
        return list(self._lines)
