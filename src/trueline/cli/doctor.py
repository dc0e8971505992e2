"""`trueline doctor`: everything trueline needs here, looked at one by one, with what to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import click

from trueline.cli.checks import engines, machine, work
from trueline.cli.checks.finding import BAD, DOUBTFUL, GOOD, Finding, Patient, bad
from trueline.cli.options import Session, with_session
from trueline.errors import TruelineError

CHECKS: dict[str, Callable[[Patient], Finding]] = {
    "python": machine.python,
    "packages": machine.packages,
    "state folder": machine.state_folder,
    "open files": machine.descriptors,
    "clock": machine.clock,
    "ports": machine.ports,
    "sockets": machine.socket_paths,
    "processes": machine.leftovers,
    "project file": work.project_file,
    "source": work.source,
    "train": work.train,
    "database": engines.database,
    "tracking": engines.tracking,
    "storage": engines.storage,
    "backlog": work.backlog,
}

DEADLINE_SECONDS = 75.0
"""Above what each check allows itself; only what hangs in a library or a file system comes near it."""

MARKS = {GOOD: ("✓", "green"), DOUBTFUL: ("!", "yellow"), BAD: ("✗", "red")}


@click.command
@with_session
def doctor(session: Session) -> int:
    """Check what trueline needs here, and say what to do.

    Changes nothing, except for one small object in a storage that is a bucket. ✓ is good, ! works but should be looked at, ✗ does not work: then the exit code is 1.

    \b
    Examples:
      trueline doctor
      trueline doctor --target prod --json | jq '.checks[] | select(.state != "good")'
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    found = examine(_patient(session))
    healthy = all(one.state != BAD for one in found.values())
    if session.out.as_json:
        checks = [
            {"check": name, "state": one.state, "seen": one.seen, "remedy": one.remedy} for name, one in found.items()
        ]
        session.out.json({"healthy": healthy, "checks": checks})
        return 0 if healthy else 1
    width = max(map(len, found))
    for name, one in found.items():
        mark, color = MARKS[one.state]
        drawn = mark if session.out.plain else click.style(mark, fg=color)
        session.out.echo(f"{drawn} {name.ljust(width)}  {one.seen}")
        if one.remedy:
            session.out.echo(f"  {' ' * width}  → {one.remedy}")
    return 0 if healthy else 1


def _patient(session: Session) -> Patient:
    from trueline import projectfile

    try:
        project = projectfile.load(session.project, session.target)
    except TruelineError:
        project = None  # the check of the project file says why
    return Patient(session.project, session.state, session.target, project)


@dataclass
class _Check:
    """One check in a thread of its own, so that none holds up the others, or the end."""

    look: Callable[[Patient], Finding]
    found: list[Finding] = field(default_factory=list)

    def run(self, patient: Patient) -> None:
        try:
            self.found.append(self.look(patient))
        except TruelineError as problem:
            self.found.append(bad(str(problem)))
        except Exception as defect:  # noqa: BLE001 the edge: a check that fails is a finding, and the others go on
            self.found.append(bad(f"the check itself failed: {type(defect).__name__}: {defect}"))


def examine(patient: Patient, checks: dict[str, Callable[[Patient], Finding]] = CHECKS) -> dict[str, Finding]:
    """Every check's finding, in the table's order."""
    going = {name: _Check(look) for name, look in checks.items()}
    threads = {}
    for name, one in going.items():
        threads[name] = threading.Thread(target=one.run, args=(patient,), daemon=True)
        threads[name].start()
    end = time.monotonic() + DEADLINE_SECONDS
    found = {}
    for name, thread in threads.items():
        thread.join(max(0.0, end - time.monotonic()))
        late = bad(f"no answer in {DEADLINE_SECONDS:.0f} s", "look at what it needs: a file system or a server hangs")
        found[name] = next(iter(going[name].found), late)
    return found
