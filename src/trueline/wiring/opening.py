"""From a project file and a state folder to the objects that work on them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert, select, update

from trueline.clock import Clock, SystemClock
from trueline.control.clocks import ReplayClock
from trueline.control.context import Context
from trueline.projectfile import load
from trueline.settings import StateFolder
from trueline.store import tables
from trueline.store.engine import Store, open_sqlite
from trueline.wiring.controllers import Controllers
from trueline.wiring.services import LocalServices

STATE = ".trueline"


def open_context(
    project_file: Path, state: Path | None = None, *, replay: bool = False, actor: str = "control"
) -> Context:
    """Open (or create) the state beside a project file.

    Raises:
        InvalidProject: the project file is missing or wrong.
        Unavailable: the state folder or its database cannot be used.
    """
    project = load(project_file)
    root = project_file.resolve().parent
    folder = StateFolder((state or root / STATE).resolve()).create()
    clock: Clock = ReplayClock() if replay else SystemClock()
    store = open_sqlite(folder.database, clock)
    if isinstance(clock, ReplayClock):
        clock.refresh(store)
    _register(store, project.name, project_file.read_text(), actor)
    return Context(project, root, folder, store, clock, actor)


def _register(store: Store, name: str, text: str, actor: str) -> None:
    """Keep the project file's text with an event, so that each decision can be read beside the policy of its day."""
    box = tables.projects
    with store.read() as tx:
        if tx.execute(select(box.c.file).where(box.c.name == name)).scalar() == text:
            return
    with store.begin() as tx:
        changed = tx.execute(update(box).where(box.c.name == name).values(file=text, updated_at=tx.now))
        if changed.rowcount == 0:
            tx.execute(insert(box), {"name": name, "file": text, "updated_at": tx.now})
        tx.record(
            "project.set", name, project=name, actor=actor, reason="the project file was read", detail={"file": text}
        )


def open_services(project_file: Path, state: Path | None = None) -> LocalServices:
    """Everything the API offers, in this process: for commands while no server runs."""
    context = open_context(project_file, state, actor="command line")
    return LocalServices(context, Controllers(context), replaying=False)
