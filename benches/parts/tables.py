"""Medians of the results as tables: plain for the terminal, Markdown for docs/performance.md."""
import dataclasses, statistics

RESTORES = ("restic restore", "rustic restore", "kopia restore")
MOUNTS = ("restic mount", "rustic mount", "kopia mount")


@dataclasses.dataclass(frozen=True)
class Times:
    """So many times as long as another tool at the same step of the same work."""

    tool: str
    factor: float


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the main table: what is done, which result is ours, the figure to reach in seconds (or the restores to be
    no slower than, or a multiple of another tool's), the ceiling's name in the same results, and the workload in which
    restores were measured."""

    what: str
    workload: str
    tool: str = "backupfs"
    step: str = "first"
    reach: float | tuple | Times | None = None
    ceiling: str | None = "null"
    restored: str | None = None


ROWS = (
    Row("mount to first `ls` of a snapshot, nothing cached", "mount to first ls", "backupfs no cache", reach=0.25, ceiling=None),
    Row("the same, warm index cache", "mount to first ls", reach=0.15, ceiling=None),
    Row("`ls -l` of 50,000 files in one directory", "ls -l", reach=2.0),
    Row("the same, `noxattr`", "ls -l", "backupfs noxattr", reach=0.7, ceiling="null noxattr"),
    Row("again", "ls -l", step="again"),
    Row("again, `allow_other` (the kernel keeps ACLs)", "ls -l", "backupfs allow_other", "again", reach=0.9,
        ceiling="null noxattr"),
    Row("`find -size` over 70,000 files", "find", reach=0.6),
    Row("again", "find", step="again"),
    Row("`cp -r` of 20,000 × 4 KiB, 200 directories, to tmpfs", "cp -r", reach=0.9, ceiling="null noxattr", restored="cp -a"),
    Row("again, from the page cache", "cp -r", step="again", ceiling="null noxattr"),
    Row("`cp -a` of the same", "cp -a", reach=1.5, restored="cp -a"),
    Row("again, from the page cache", "cp -a", step="again"),
    Row("`cp -a`, `noxattr`", "cp -a", "backupfs noxattr", reach=0.9, ceiling="null noxattr", restored="cp -a"),
    Row("`dd bs=1M` of 512 MiB, 2:1 compressible", "dd half", reach=0.65, restored="dd half"),
    Row("`dd bs=1M` of 512 MiB, random", "dd random", reach=0.5, restored="dd random"),
    Row("re-read of the 512 MiB", "dd half", step="again", reach=0.15),
    Row("400 random 4 KiB reads in 512 MiB", "random reads", reach=0.6),
    Row("`ls -l SET/*/a/b/c/file` over 365 dates", "dates", reach=1.0, ceiling=None),
    Row("all of it in one mount, `memory=48M`", "everything", "backupfs memory=48M", reach=Times("backupfs", 1.2),
        ceiling=None),
    Row("a snapshot on this machine: re-read of 512 MiB", "dd half", "backupfs directory", "again",
        reach=Times("native", 1 / 0.95)),
    Row("`cp -r` of 20,000 × 4 KiB of it, warm, first in the mount", "cp -r, warm", "backupfs directory", reach=1.2,
        ceiling=None),
    Row("`cp -a` of the same", "cp -a, warm", "backupfs directory", reach=2.6, ceiling=None),
    Row("`find -size` over 70,000 files of it", "find", "backupfs directory", reach=Times("native", 1.6)),
    Row("again", "find", "backupfs directory", "again", reach=Times("native", 1.2)),
    Row("a language's toolchain, `cp -a` to tmpfs", "toolchain", reach=RESTORES, restored="toolchain"),
    Row("the same, `noxattr`", "toolchain", "backupfs noxattr", reach=RESTORES, restored="toolchain"),
    Row("300,000 files of 0.2–8 KiB, disk to disk, `cp -r`", "300,000 files, cp -r", reach=RESTORES[:1],
        restored="300,000 files, cp -a"),
    Row("the same, `cp -a`", "300,000 files, cp -a", reach=RESTORES[:1], ceiling=None, restored="300,000 files, cp -a"),
    Row("the same, `cp -a`, `noxattr`", "300,000 files, cp -a", "backupfs noxattr", reach=RESTORES[:1], ceiling=None,
        restored="300,000 files, cp -a"),
)
# Who, where measured, as which tool, MiB to reach.
PEAKS = (("backupfs", "everything", "backupfs", 160), ("backupfs, `memory=48M`", "everything", "backupfs memory=48M", 96),
         ("restic mount", "everything", "restic mount", None), ("kopia mount", "everything", "kopia mount", None),
         ("backupfs, 300,000 files", "300,000 files, cp -a", "backupfs", 160),
         *((f"{name}, 300,000 files", "300,000 files, cp -a", name, None) for name in RESTORES))


class Report:
    """Results with medians looked up."""

    def __init__(self, report):
        self.report, self.results = report, report["results"]

    def seconds(self, workload, tool, step="first"):
        """The median of a step; None when it was not measured, infinity when the limit was met."""
        rounds = self.results.get(workload, {}).get(tool, ())
        found = [one["steps"][step] for one in rounds if step in one["steps"]]
        if not found:
            return None
        value = float("inf") if None in found else statistics.median(found)
        derived = self.report["about"]["key derivation, Kopia"]["seconds"]
        return value - derived if (workload, tool) == ("mount to first ls", "kopia mount") else value

    def cost(self, workload, tool, what):
        """The median of CPU seconds (cpu) or peak MiB (rss)."""
        found = [one[what] for one in self.results.get(workload, {}).get(tool, ()) if what in one]
        return statistics.median(found) if found else None

    def shown(self, seconds):
        """Seconds as text."""
        if seconds is None:
            return ""
        return f"> {self.report['limit']}" if seconds == float("inf") else f"{seconds:.2f}"

    def reach(self, row):
        """The figure to reach: seconds, or None."""
        if isinstance(row.reach, Times):
            other = self.seconds(row.workload, row.reach.tool, row.step)
            return other and other * row.reach.factor
        if isinstance(row.reach, tuple):
            found = [s for s in (self.seconds(row.restored, name) for name in row.reach) if s is not None]
            return min(found) if found else None
        return row.reach

    def cells(self, row):
        """A row as texts: what, ours, reach, missed, ceiling, the three mounts, restores, native cold and warm."""
        ours, reach = self.seconds(row.workload, row.tool, row.step), self.reach(row)
        verdict = "" if reach is None else met(ours, reach)
        other = lambda tool, step=row.step: self.shown(self.seconds(row.workload, tool, step))
        restores = " / ".join(self.shown(self.seconds(row.restored, name)) or "–" for name in RESTORES) if row.restored else ""
        native = " / ".join(s for s in (other("native", "first"), other("native", "again")) if s)
        return (row.what, self.shown(ours), "" if reach is None else f"{reach:.2f}", verdict,
                other(row.ceiling) if row.ceiling else "", *(other(name) for name in MOUNTS), restores, native)

    def rows(self):
        """The rows that were measured."""
        return [self.cells(row) for row in ROWS if self.seconds(row.workload, row.tool, row.step) is not None]

    def peaks(self):
        """Peak memory: who, MiB, reach, seconds of the work."""
        found = []
        for who, workload, tool, reach in PEAKS:
            peak = self.cost(workload, tool, "rss")
            if peak is not None:
                verdict = "" if reach is None else met(peak, reach)
                found.append((who, f"{peak:.0f}", reach or "", verdict, self.shown(self.seconds(workload, tool))))
        return found

    def costs(self):
        """CPU seconds and peak MiB of our server and of each mount beside it, by workload."""
        names = ("backupfs", *MOUNTS)
        cell = lambda workload, tool: " · ".join(
            form.format(v) for v, form in ((self.cost(workload, tool, "cpu"), "{:.2f} s"),
                                           (self.cost(workload, tool, "rss"), "{:.0f} MiB")) if v is not None)
        return [(workload, *(cell(workload, name) for name in names)) for workload in self.results
                if self.cost(workload, "backupfs", "cpu") is not None]


def met(ours, reach):
    """Whether a figure was reached, and how far it is off."""
    if ours <= reach:
        return "yes"
    return "no" if ours == float("inf") else f"no, × {ours / reach:.2f}"


HEADS = ("work, seconds", "backupfs", "reach", "met", "FUSE's ceiling", *MOUNTS, "restore: restic / rustic / kopia",
         "native: cold / warm")
PEAK_HEADS = ("peak resident memory, MiB", "peak", "reach", "met", "seconds")
COST_HEADS = ("server's CPU time and peak memory", "backupfs", *MOUNTS)


def text(report):
    """All tables for a terminal."""
    made = Report(report)
    return "\n\n".join(aligned(heads, rows) for heads, rows in
                       ((HEADS, made.rows()), (PEAK_HEADS, made.peaks()), (COST_HEADS, made.costs())) if rows)


def aligned(heads, rows):
    """A table in columns."""
    rows = [tuple(map(str, row)) for row in (heads, *rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def markdown(heads, rows):
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def lost(report):
    """Workloads in which some mount beside backupfs was faster."""
    made, found = Report(report), []
    for workload in made.results:
        ours = made.seconds(workload, "backupfs")
        others = [s for s in (made.seconds(workload, name) for name in MOUNTS) if s is not None]
        if ours is not None and others and ours >= min(others):
            found.append(workload)
    return found


# Of the counters that begin with fuse_ those that are no requests.
PUSHES = {"pushes": "pushed", "pushes_refused": "refused"}
OTHERS = ("read_bytes", "waits")


def requests_cells(report):
    """Heads and rows of requests for a file: each operation that occurred at all, and what was pushed."""
    found = report["requests"]
    names = [name for name in next(iter(found.values())) if name not in OTHERS and any(counts[name] for counts in found.values())]
    operations = [name for name in names if not name.startswith("push")]
    each = lambda counts, name: f"{counts[name] / report['files']:.3f}" if counts[name] else ""
    rows = [(command, f"{sum(counts[name] for name in operations) / report['files']:.3f}",
             *(each(counts, name) for name in (*operations, *(name for name in PUSHES if name in names))))
            for command, counts in found.items()]
    return ("requests for a file", "all", *operations, *(PUSHES[name] for name in PUSHES if name in names)), rows


def requests(report):
    """The same in Markdown."""
    return (f"Requests of the kernel, {report['files']:,} files of 4 KiB in {report['directories']} directories "
            f"(`benches/requests`):\n\n" + markdown(*requests_cells(report)))


# Seconds to reach behind a round trip of 30 ms, from cold caches and from a warm disk cache, and requests to reach.
REACH_AFAR = {"mount to first `ls`": ("0.5 / 0.2", ""), "`ls -l` of the large directory": ("2.4, noxattr 1.0, bucket warm 0.7", ""),
              "first byte of a big file": ("0.07", ""), "`dd` of the big file": ("0.7, bucket 0.5", ""),
              "`cp -a` of small files": ("1.2 / 0.4, bucket 2.5", "40"), "`ls -l SET/*/a/b/c/file` over 365 dates": ("3", "")}


def remote_cells(found, is_measure):
    """Heads and rows of one round trip in benches/remote: seconds, requests and megabytes of each program. is_measure:
    with the figures to reach."""
    names = list(dict.fromkeys(name for tools in found.values() for name in tools))
    median = lambda runs, what: statistics.median(one[what] for one in runs) if runs else None
    shown = lambda value, form: "" if value is None else "> 60" if value == float("inf") else form.format(value)
    rows = []
    for work, tools in found.items():
        ours = [name for name in names if name.startswith("backupfs") and tools.get(name)]
        each = lambda what, scale, form: " / ".join(shown(median(tools[name], what), form) if scale == 1 else
                                                    form.format(median(tools[name], what) / scale) for name in ours)
        reach = REACH_AFAR.get(work, ("", "")) if is_measure else ()
        rows.append((work, *(shown(median(tools.get(name), "seconds"), "{:.2f}") for name in names), *reach[:1],
                     each("requests", 1, "{:.0f}"), *reach[1:], each("bytes", 1e6, "{:.1f}")))
    reach = ("reach",) if is_measure else ()
    return ("work, seconds", *names, *reach, "our requests", *(("reach",) if is_measure else ()), "our MB"), rows


def remote(reports):
    """Tables of runs of benches/remote in Markdown; each adds what it measured."""
    runs = "; ".join(f"`{report['command']}`, {report['rounds']} round(s)" for report in reports)
    joined = {}
    for report in reports:
        for milliseconds, results in report["remote"].items():
            for work, tools in results.items():
                joined.setdefault(float(milliseconds), {}).setdefault(work, {}).update(tools)
    found = (f"A repository behind an S3 server (versitygw) that is a round trip away, medians of {runs}. Mounts include key "
             "derivation. Our requests and megabytes are those of our columns in turn.\n")
    for milliseconds, results in sorted(joined.items()):
        found += f"\n{milliseconds:g} ms:\n\n" + markdown(*remote_cells(results, milliseconds == 30))
    return found
