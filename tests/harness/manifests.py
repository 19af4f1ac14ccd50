"""What a directory holds, entry by entry, and what the committed fixtures have to show.

The expected manifests were written by the tools' own machines for the directories that were backed up: see
fixtures/*/expected. A set whose path is a file has no manifest there; its one file is given here.
"""
import json, pathlib, sys

from cases import FIXTURES, run

HERE = pathlib.Path(__file__).resolve().parent


def manifest(directory, *flags):
    """One dict an entry below a directory, sorted by path."""
    lines = run(sys.executable, HERE / "manifest.py", directory, *flags, timeout=150).out.splitlines()
    return [json.loads(line) for line in lines]


def expected(fixture, name):
    """A committed manifest."""
    with open(FIXTURES / fixture / "expected" / f"{name}.jsonl", encoding="ascii") as lines:
        return [json.loads(line) for line in lines]


def same(found, wanted, what):
    """Fails with the first differences when two manifests differ."""
    if found == wanted:
        return
    a, b = ({row["path"]: row for row in rows} for rows in (found, wanted))
    assert len(a) == len(found), f"{what}: a path is listed twice"
    notes = []
    for path in sorted(set(a) | set(b)):
        if path not in a:
            notes.append(f"{path:.60} is missing")
        elif path not in b:
            notes.append(f"{path:.60} is too much")
        elif a[path] != b[path]:
            keys = [k for k in sorted({*a[path], *b[path]}) if a[path].get(k) != b[path].get(k)]
            notes.append(f"{path:.60}: " + ", ".join(f"{k} {a[path].get(k)!r:.80} for {b[path].get(k)!r:.80}" for k in keys))
    raise AssertionError(f"{what}: {len(notes)} entries differ: " + "; ".join(notes[:3]))


def _file(name, size, mtime, sha256, uid=0):
    return [{"path": name, "type": "file", "mode": "0644", "uid": uid, "gid": uid, "size": size,
             "mtime_ns": mtime * 10**9, "sha256": sha256}]


_DUMP = _file("dump.sql", 10, 1706832000, "4a45092ccf992ea92250053a80b931b787924ba61648f420555511b84f10ab6c")
_NOTES = _file("notes.txt", 15, 1704880800, "ea8e22f3454bf9694adafe85c0bf6f82f42d814a895a7a8c6d529d47edd6ae5d", 1000)


def _restic(first, second):
    """The sets of restic-v1 and restic-v2: set to date to manifest. first, second: the two of one second."""
    return {
        "alpha@+srv+data": {"20240115_030000": "alpha-1", "20240116_030000": "alpha-2"},
        "beta@+home+bob": {"20240116_030000": "beta-home-bob"},
        "beta@+opt+app": {"20240116_030000": "beta-opt-app"},
        "beta@+home+bob+a%2Bb": {f"20240117_030000-{first}": "beta-a+b", f"20240117_030000-{second}": "beta-a+b-second"},
        "gamma@+home+bob": {"20240201_000000": "gamma-home-bob"},
        "gamma@+opt+app": {"20240201_000000": "gamma-opt-app"},
        "gamma@+db+dump.sql": {"20240202_000000": _DUMP},
        "gamma@+home+bob+notes.txt": {"20240203_000000": _NOTES},
        "delta@example.org@+home+bob": {"20240229_235959": "gamma-home-bob"},
        "delta@example.org@+opt+app": {"20240229_235959": "gamma-opt-app"},
        "delta@example.org@+srv+data+docs": {"20240229_235959": "delta-srv-data-docs"},
    }


SETS = {
    "restic-v1": _restic("f6a20bb5", "404efee2"),
    "restic-v2": _restic("3531597c", "ed0d56db"),
    "rustic-hotcold": {
        "alpha@+srv+data": {"20240115_030000": "alpha-1", "20240116_030000": "alpha-2"},
        "alpha@+data": {"20240117_030000": "alpha-2"},
    },
}


def wanted(fixture, held):
    """The manifest of one date of SETS."""
    return expected(fixture, held) if isinstance(held, str) else held
