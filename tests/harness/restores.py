"""Restoring a directory with the tools people have: each copies all it holds, metadata included."""
import os

from cases import run, scratch


def with_cp(source):
    """cp -a; gives the directory restored to."""
    out = scratch("cp")
    run("cp", "-a", f"{source}/.", out)
    return out


def with_rsync(source):
    """rsync with every attribute. Times to the nanosecond: without -@-1 it compares whole seconds."""
    out = scratch("rsync")
    run("rsync", "-aHAXS", "--numeric-ids", "-@-1", f"{source}/", f"{out}/")
    return out


def with_tar(source):
    """tar through a pipe; the posix format keeps nanoseconds."""
    out = scratch("tar")
    attributes = "--xattrs --xattrs-include='*' --acls --numeric-owner -S"
    script = f'set -o pipefail; tar -C "$1" --format=posix {attributes} -cf - . | tar -C "$2" {attributes} -xpf -'
    result = run("bash", "-c", script, "bash", source, out)
    bad = [line for line in result.message.splitlines() if "time stamp" not in line]
    assert not bad, f"tar complains: {bad[0]}"
    return out


TOOLS = {"cp -a": with_cp, "rsync -aHAXS": with_rsync, "tar --xattrs --acls -S": with_tar}


def rsync_differences(left, right):
    """What rsync, comparing contents and all metadata, would do to make right equal to left."""
    return run("rsync", "-aHAXSn", "--numeric-ids", "-@-1", "--checksum", "--delete", "-i", f"{os.fspath(left)}/",
               f"{os.fspath(right)}/").text
