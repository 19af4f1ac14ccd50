"""What rights a process has, and who helps whoever serves a mount. Standard library only."""
import pathlib, re

from cases import children

SEARCH = 1 << 2  # CAP_DAC_READ_SEARCH
OWNER, ADMIN = 1 << 3, 1 << 21  # CAP_FOWNER, CAP_SYS_ADMIN


def status(pid):
    """The fields of /proc/PID/status that tell privileges."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    number = lambda name, base: int(re.search(rf"^{name}:\s+(\S+)", text, re.M)[1], base)
    return {**{name: number(name, 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")},
            "NoNewPrivs": number("NoNewPrivs", 10), "Threads": number("Threads", 10)}


def called(verb, of):
    """The processes that the broker of a mount started as `backupfs VERB`."""
    def arguments(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            return []
    return [pid for pid in children(of) if verb.encode() in arguments(pid)[1:2]]
