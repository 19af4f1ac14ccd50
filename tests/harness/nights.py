"""Directories of dates on this machine, as rsync leaves them night after night."""
import datetime

from cases import run, scratch


class Nights:
    """A directory that holds a directory for each host and in that one for each night. Shown as the set `live@+`."""

    set = "live@+"

    def __init__(self):
        self.path = scratch("nights")

    def arguments(self):
        """What tells backupfs to open it."""
        return ["-r", f"directory:{self.path}/{{host}}/{{time}}"]

    def night(self, time):
        """The empty directory of a night, for a test to fill; time as 2024-01-31 12:00:00."""
        name = datetime.datetime.strptime(time, "%Y-%m-%d %H:%M:%S").strftime("%Y%m%d_%H%M%S")
        made = self.path / "live" / name
        made.mkdir(parents=True)
        return made

    def backup(self, source, time):
        """Copies a directory as rsync does, with hard links to what is in the night before."""
        nights = sorted((self.path / "live").glob("*"))
        made = self.night(time)
        same = [f"--link-dest={nights[-1]}"] if nights else []
        # Otherwise times of one second are the same.
        run("rsync", "-aHAXS", "--numeric-ids", "--modify-window=-1", *same, f"{source}/", f"{made}/")
