"""Many small repositories beside each other: one that restic wrote, over and over by hard links, each under an id of its own."""
import base64, json, os, pathlib, shutil, tempfile

from cases import scratch
from restic import Restic
from written import Key

from . import repositories

NAME = "cback-{:05}"


def template(bench):
    """A repository of three dates with a key that costs nothing; gives it, its master key and its configuration."""
    base, source = tempfile.mkdtemp(dir=bench.work, prefix="template-"), scratch("source") / "home"
    made = Restic(base, repositories.PASSWORD)
    (source / "docs").mkdir(parents=True)
    for day in range(3):
        for name in range(10):
            (source / "docs" / f"note-{name}").write_text(f"note {name}, day {day}\n")
        made.backup(source, host=repositories.HOST, time=f"2024-05-0{day + 1} 03:00:00")
    cat = lambda what: made("cat", what, "--no-lock").out
    master, config = cat("masterkey"), json.loads(cat("config"))
    repositories.only_key(made.path, master)
    fields, raw = json.loads(master), base64.b64decode
    return made.path, Key(raw(fields["encrypt"]) + raw(fields["mac"]["k"]) + raw(fields["mac"]["r"])), config


def make(bench, count):
    """A directory of so many members; made beside, then moved into place."""
    whole = bench.work / f"members-{count}"
    if whole.exists():
        return whole
    path, key, config = template(bench)
    files = [p.relative_to(path) for p in path.rglob("*") if p.is_file() and p.name != "config"]
    directories = sorted({str(parent) for file in files for parent in file.parents if parent != pathlib.Path(".")})
    made = whole.with_name(whole.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    for number in range(count):
        member = made / NAME.format(number)
        member.mkdir()
        for directory in directories:
            os.mkdir(member / directory)
        for file in files:
            os.link(path / file, member / file)
        (member / "config").write_bytes(key.seal(json.dumps({**config, "id": os.urandom(32).hex()}).encode()))
    made.rename(whole)
    return whole
