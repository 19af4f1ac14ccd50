"""A machine whose PID 1 is systemd, in a container made of this machine's own root: its changes go into memory, and nobody else sees them.

A script calls booted() before its cases; they run as a unit of that machine. What a package would install is installed there.
"""
import os, pathlib, shutil, subprocess, sys, tempfile

from cases import FORGET_MOUNTS, PROJECT
from mount import binary
from system import helper

_INSIDE = "BACKUPFS_TEST_BOOTED"
_SECONDS = 240

# What would look at devices of the host, open ports, or has nothing to do with file systems.
_MASKED = ("systemd-sysctl.service systemd-modules-load.service systemd-udevd.service systemd-udev-trigger.service systemd-firstboot.service "
           "zfs-fuse.service lvm2-monitor.service lvm2-lvmpolld.socket dm-event.socket ssh.socket ssh.service cni-dhcp.socket uuidd.socket "
           "docker.service docker.socket containerd.service systemd-networkd-wait-online.service NetworkManager-wait-online.service "
           "systemd-machine-id-commit.service systemd-update-utmp.service snapd.socket snapd.service multipathd.socket multipathd.service "
           "iscsid.socket systemd-resolved.service systemd-timesyncd.service").split()

# $1 a directory for the stage, then what boots the container. A machine without cgroups of version 2 has them in here.
_BOOT = FORGET_MOUNTS + """
stage=$1; shift
mount -t tmpfs tmpfs "$stage" && mkdir "$stage/new" "$stage/work" "$stage/root" &&
mount -t overlay -o "lowerdir=/,upperdir=$stage/new,workdir=$stage/work" overlay "$stage/root" || exit 77
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup || exit 77
fi
group=/sys/fs/cgroup/$(basename "$stage")
mkdir "$group" && echo $$ >"$group/cgroup.procs" || exit 77
"$@"
code=$?
echo $$ >/sys/fs/cgroup/cgroup.procs && find "$group" -depth -type d -exec rmdir {} \;
exit $code
"""


def booted(script):
    """Runs the cases of this script in such a machine and ends with their result, unless it is there already."""
    if _INSIDE in os.environ:
        return
    lacks = [name for name in ("systemd-nspawn", "unshare") if not shutil.which(name)]
    if os.getuid() or lacks or not pathlib.Path("/lib/systemd/systemd").exists() or not os.path.exists("/dev/fuse"):
        _skipped(f"no systemd, root, /dev/fuse or {' '.join(lacks) or 'systemd-nspawn'} here")
    if "--boot" in sys.argv:
        return _boot(pathlib.Path(sys.argv[sys.argv.index("--boot") + 1]), script)
    stage = tempfile.mkdtemp(prefix="backupfs-stage-")
    log = pathlib.Path(stage + ".log")
    inner = [sys.executable, script, "--boot", stage, *sys.argv[1:]]
    try:
        with open(log, "wb") as out:
            code = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", _BOOT, "sh", stage, *inner],
                                  stderr=out, stdin=subprocess.DEVNULL, check=False).returncode
        if code == 77:
            # As on a machine that cannot mount: nothing is missing that could be installed.
            print(log.read_text(errors="replace")[-2000:], file=sys.stderr)
            print("# not run: no container with systemd can be had here\n0 passed, 0 failed, 0 skipped")
            code = 0
        sys.exit(code)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        log.unlink(missing_ok=True)


def _skipped(why):
    print(f"SKIPPED {pathlib.Path(sys.argv[0]).name}: {why}\n0 passed, 0 failed, 1 skipped")
    sys.exit(0)


def _install(root, script):
    """What a package brings, and the unit that runs the cases."""
    units = root / "etc/systemd/system"
    for unit in _MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    packaging = PROJECT / "packaging"
    for what, to in ((binary(), "usr/bin/backupfs"), (helper(), "usr/sbin/mount.backupfs"), (helper(), "usr/sbin/mount.fuse.backupfs"),
                     (packaging / "autofs/automap", "usr/libexec/backupfs/automap"),
                     (packaging / "systemd/backupfs@.service", "usr/lib/systemd/system/backupfs@.service"),
                     (packaging / "systemd/user/backupfs@.service", "usr/lib/systemd/user/backupfs@.service"),
                     (packaging / "tmpfiles/backupfs.conf", "usr/lib/tmpfiles.d/backupfs.conf")):
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(what, root / to)
    (root / "etc/fstab").write_text("")
    (root / "etc/machine-id").write_text("")
    words = " ".join(f'"{word}"' for word in [sys.executable, script, *[a for a in sys.argv[1:] if a not in ("--boot", str(root.parent))]])
    (units / "cases.service").write_text(
        f"[Unit]\nDescription=cases\n[Service]\nType=oneshot\nEnvironment={_INSIDE}=1 BACKUPFS={binary()} PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
        f"Environment=LONG={os.environ.get('LONG', '0')}\nStandardOutput=file:/cases.out\nStandardError=inherit\nTimeoutStartSec={_SECONDS}\n"
        f"ExecStart={words}\nExecStopPost=/bin/sh -c 'exec systemctl --force --force poweroff >/dev/null 2>&1'\n")
    (units / "cases.target").write_text("[Unit]\nRequires=basic.target\nWants=cases.service\nAfter=basic.target cases.service\nAllowIsolate=yes\n")


def _boot(stage, script):
    """Boots the machine on the overlay that is ready, waits for its end, and passes on what the cases said."""
    root = stage / "root"
    _install(root, script)
    devices = [f"--bind={device}" for device in ("/dev/fuse", "/dev/autofs") if os.path.exists(device)]
    command = ["systemd-nspawn", "--quiet", "--directory", root, "--register=no", "--keep-unit", "--private-network", *devices,
               f"--bind-ro={PROJECT}", f"--bind-ro={binary().parent}", "--boot", "systemd.unit=cases.target", "systemd.show_status=no"]
    try:
        console = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_SECONDS + 60, check=False).stdout
    except subprocess.TimeoutExpired as late:
        console = late.stdout or b""
    result = root / "cases.out"
    if not result.exists():
        sys.stderr.write(console.decode(errors="replace"))
        sys.exit(77)
    text = result.read_text(errors="replace")
    print(text, end="", flush=True)
    last = (text.splitlines() or [""])[-1]
    sys.exit(0 if " 0 failed" in last else 1)
