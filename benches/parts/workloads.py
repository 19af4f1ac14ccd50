"""What is measured: scripts over mounted files, with the tools that take part."""
import dataclasses, pathlib

from . import tools

RANDOM = f'python3 "{pathlib.Path(__file__).resolve().parent / "random_reads.py"}" "$1/half"'


@dataclasses.dataclass(frozen=True)
class Workload:
    """title: its key in results; data: the dataset; script: run with $1 the files, $2 an empty directory, $3 what lies
    between a date and its files; None measures until the first listing. again: run a second time, with warm caches.
    compared: what the copy in $2 must equal, names below the files; times: modification times too. restored: what
    restore programs bring back for it. disk: copies go to the disk instead of memory. warm: the original files are in
    memory before. own_clock: the script prints its seconds. long: only with --long."""

    title: str
    data: str
    script: str | None
    tools: tuple
    again: bool = True
    compared: tuple = ()
    times: bool = False
    restored: str | None = None
    disk: bool = False
    warm: bool = False
    own_clock: bool = False
    long: bool = False


_CP = 'cp {} "$1/small" "$2"'
_TREE = 'mkdir "$2/all"; cp {} "$1/." "$2/all"'

_SMALL, _HALF = (tools.DEFAULT, tools.NOXATTR), (tools.DEFAULT, tools.NULL)
_ALL_SCRIPTS = " && ".join((
    'ls -l "$1/many" >/dev/null', 'find "$1/" -size +1k >/dev/null', _CP.format("-a"), 'rm -rf "$2"/*',
    'dd bs=1M if="$1/half" of=/dev/null status=none', 'dd bs=1M if="$1/random" of=/dev/null status=none',
    RANDOM + " >/dev/null"))

WORKLOADS = (
    Workload("mount to first ls", "main", None, (tools.UNCACHED, tools.DEFAULT, *tools.PEERS), again=False),
    Workload("ls -l", "main", 'ls -l "$1/many" >/dev/null',
             (tools.DEFAULT, tools.NOXATTR, tools.SHARED, tools.NULL, tools.NULL_NOXATTR, *tools.PEERS, tools.NATIVE)),
    Workload("find", "main", 'find "$1/" -size +1k >/dev/null',
             (tools.DEFAULT, tools.DIRECTORY, tools.NULL, *tools.PEERS, tools.NATIVE)),
    Workload("cp -r", "main", _CP.format("-r"), (*_SMALL, tools.NULL_PUSH, tools.NULL_NOXATTR_PUSH, *tools.PEERS,
             tools.NATIVE), compared=("small",)),
    Workload("cp -a", "main", _CP.format("-a"), (*_SMALL, tools.NULL_PUSH, tools.NULL_NOXATTR_PUSH, *tools.PEERS,
             tools.NATIVE), compared=("small",), times=True, restored="small"),
    Workload("cp -r, warm", "main", _CP.format("-r"), (tools.DIRECTORY, tools.NATIVE), again=False, compared=("small",),
             warm=True),
    Workload("cp -a, warm", "main", _CP.format("-a"), (tools.DIRECTORY, tools.NATIVE), again=False, compared=("small",),
             times=True, warm=True),
    Workload("dd half", "main", 'dd bs=1M if="$1/half" of=/dev/null status=none',
             (*_HALF, tools.DIRECTORY, *tools.PEERS, tools.NATIVE), restored="half"),
    Workload("dd random", "main", 'dd bs=1M if="$1/random" of=/dev/null status=none', (*_HALF, *tools.PEERS, tools.NATIVE),
             restored="random"),
    Workload("cp half", "main", 'cp "$1/half" "$2"', (tools.DEFAULT,), again=False, compared=("half",)),
    Workload("random reads", "main", RANDOM, (*_HALF, *tools.PEERS, tools.NATIVE), own_clock=True, again=False),
    Workload("dates", "dates", 'ls -l "$1"/*/"$3"a/b/c/file >/dev/null', (tools.DEFAULT, *tools.PEERS[:2])),
    Workload("toolchain", "toolchain", _TREE.format("-a"),
             (tools.DEFAULT, tools.NOXATTR, tools.NULL_PUSH, *tools.PEERS, tools.NATIVE), again=False, compared=("",),
             times=True, restored=""),
    Workload("everything", "main", _ALL_SCRIPTS, (tools.DEFAULT, tools.SMALL, tools.PEERS[0], tools.PEERS[2]),
             again=False),
    Workload("300,000 files, cp -r", "long", _TREE.format("-r"), (tools.DEFAULT, tools.NULL_PUSH, tools.NATIVE), again=False,
             compared=("",), disk=True, long=True),
    Workload("300,000 files, cp -a", "long", _TREE.format("-a"), (tools.DEFAULT, tools.NOXATTR, tools.NATIVE), again=False,
             compared=("",), times=True, restored="", disk=True, long=True),
)
