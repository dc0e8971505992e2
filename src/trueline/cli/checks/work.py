"""The project: its file, its source, its training function, and what waits to be shipped."""

from __future__ import annotations

import subprocess
import sys

from trueline.cli.checks.finding import Finding, Patient, bad, doubtful, good
from trueline.client import servers
from trueline.errors import TruelineError

IMPORT_SECONDS = 60.0
MANY = 50
FIND = """\
import sys
from pathlib import Path
from trueline.errors import TruelineError
from trueline.pipelines import user_code
try:
    user_code.find(Path(sys.argv[1]), sys.argv[2])
except TruelineError as problem:
    sys.exit("trueline: " + str(problem))
"""


def project_file(patient: Patient) -> Finding:
    """The project file can be read and says nothing wrong, in any of its targets."""
    from trueline import projectfile

    if not patient.file.is_file():
        return bad(f"there is no {patient.file}", "make one with `trueline init`, or name it with --project")
    try:
        found = projectfile.load(patient.file, patient.target)
    except TruelineError as problem:
        return bad(str(problem))
    targets = f"; targets {', '.join(found.targets)}" if found.targets else ""
    return good(f"{patient.file}: project {found.name}{targets}")


def source(patient: Patient) -> Finding:
    """The source can be read and has the columns that the project file names."""
    if patient.project is None:
        return doubtful("not looked at", "mend the project file first")
    from trueline.data.sources import FUNCTION, read_source

    data = patient.project.data
    if FUNCTION.match(data.source):
        return good(f"{data.source} is a function of the project; `trueline run` calls it")
    frame = read_source(patient.root, data.source)
    missing = [name for name in (data.target, data.time, data.entity) if name is not None and name not in frame.columns]
    if missing:
        return bad(f"{data.source} has no column {', '.join(missing)}", f"it has {', '.join(frame.columns)}")
    if data.time is not None and not frame[data.time].dtype.is_temporal():
        shown = next(iter(frame[data.time].drop_nulls()), None)
        return bad(f"the time column {data.time} holds no dates, but {shown!r}", "write them as 2026-01-31T08:00:00Z")
    target = frame[data.target]
    if not target.dtype.is_numeric() and (different := target.n_unique()) > 2:
        seen = f"the target {data.target} is {target.dtype} with {different} different values"
        return bad(seen, "a regression needs numbers, a classification two values")
    return good(f"{data.source}: {frame.height} rows, {frame.width} columns")


def train(patient: Patient) -> Finding:
    """The training function can be imported, in a process of its own as it will be."""
    if patient.project is None:
        return doubtful("not looked at", "mend the project file first")
    command = [sys.executable, "-c", FIND, str(patient.root), patient.project.train]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    if ran.returncode == 0:
        return good(f"{patient.project.train} is a function")
    said = [line for line in ran.stderr.splitlines() if line.startswith("trueline: ")]
    last = said or ran.stderr.strip().splitlines() or [f"the process ended with {ran.returncode}"]
    return bad(last[-1].removeprefix("trueline: "))


def backlog(patient: Patient) -> Finding:
    """What servers have written is shipped to the tables."""
    from trueline.journal import segments

    waiting = [
        (folder, number) for folder in sorted(patient.folder.journals.glob("*")) for number in segments.sealed(folder)
    ]
    if not waiting:
        return good("nothing waits to be shipped")
    size = sum(segments.path_of(*one).stat().st_size for one in waiting if segments.path_of(*one).exists())
    wait = "journal segment waits" if len(waiting) == 1 else "journal segments wait"
    seen = f"{len(waiting)} {wait}, {size / 1024**2:.0f} MiB"
    if not servers.running(patient.folder):
        return doubtful(seen, "they are shipped as soon as `trueline up` runs again")
    if len(waiting) > MANY:
        return doubtful(seen, "look at the shipper's lines in the output of `trueline up`")
    return good(seen)
