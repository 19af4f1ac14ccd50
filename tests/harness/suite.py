"""Runs the test scripts of a directory one after the other and adds up what they say."""
import os, pathlib, re, subprocess, sys, time

SUM = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")


def say(line):
    """Prints a line in one write, whole also where Python does not buffer."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(directory):
    """Arguments: the beginnings of names, to run only those; --list names them. Exit code 1 when a case failed."""
    directory = pathlib.Path(directory)
    scripts = sorted(p for p in directory.iterdir() if os.access(p, os.X_OK) and p.is_file() and p.name != "run")
    wanted = [a for a in sys.argv[1:] if a != "--list"]
    scripts = [s for s in scripts if not wanted or s.name.startswith(tuple(wanted))]
    if "--list" in sys.argv:
        print("\n".join(s.name for s in scripts))
        return
    total = [0, 0, 0]
    for script in scripts:
        begun = time.monotonic()
        say(f"# {directory.name}/{script.name}")
        counted = _run(script)
        say(f"# {time.monotonic() - begun:.1f} s")
        total = [a + b for a, b in zip(total, counted)]
    if not scripts:
        say("no such test")
        total[1] += 1
    say("{} passed, {} failed, {} skipped".format(*total))
    sys.exit(1 if total[1] else 0)


def _run(script):
    """Passes a script's lines on; gives its counts, a failure more when it broke off."""
    child = subprocess.Popen([script], stdout=subprocess.PIPE, text=True, errors="replace", stdin=subprocess.DEVNULL)
    counted = None
    for line in child.stdout:
        found = SUM.match(line)
        if found:
            counted = [int(n) for n in found.groups()]
        else:
            say(line.rstrip("\n"))
    code = child.wait()
    if counted is None or (code != 0 and counted[1] == 0):
        say(f"not ok {script.name} broke off with {code}")
        return [0, 1, 0] if counted is None else [counted[0], counted[1] + 1, counted[2]]
    return counted
