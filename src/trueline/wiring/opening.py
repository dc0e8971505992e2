"""From a project file and a state folder to the objects that work on them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from trueline.clock import Clock, SystemClock
from trueline.control.clocks import ReplayClock
from trueline.control.context import Context
from trueline.domain.project import Project
from trueline.errors import InvalidProject
from trueline.projectfile import load
from trueline.settings import StateFolder, resolve, without_secrets
from trueline.storage.places import open_storage
from trueline.store import meta, tables, writes
from trueline.store.engine import Store, Tx, open_store
from trueline.wiring.controllers import Controllers
from trueline.wiring.services import LocalServices

STATE = ".trueline"

"""To the end of the line, for a password may have anything in it."""


def open_context(
    project_file: Path,
    state: Path | None = None,
    *,
    target: str | None = None,
    replay: bool = False,
    actor: str = "control",
    looking: bool = False,
) -> Context:
    """Open (or create) the state of a target beside a project file; `state` is that target's own folder.

    Who is only `looking` does not put the project file in force.

    Raises:
        InvalidProject: the project file is missing or wrong, or names no such target.
        Unavailable: the state folder or its database cannot be used.
    """
    project = load(project_file, target)
    root = project_file.resolve().parent
    folder = StateFolder((state or StateFolder(root / STATE).of(target).root).resolve()).create()
    clock: Clock = ReplayClock() if replay else SystemClock()
    database = project.engines.database
    store = open_store(folder.database if database is None else resolve(database, "database", root), clock)
    try:
        if isinstance(clock, ReplayClock):
            clock.refresh(store)
        if looking:
            with store.read() as tx:
                knows(tx, project)
        else:
            _register(store, project, project_file.read_text(), actor)
        storage = open_storage(storage_url(project, root), folder)
    except BaseException:
        store.close()
        raise
    return Context(project, root, folder, store, clock, actor, storage)


def storage_url(project: Project, root: Path) -> str | None:
    """Where tables and artefacts go, references resolved and paths made absolute; None: they stay in the state folder.

    Each project, and each target of it, has a place of its own below what the file says.
    """
    if project.engines.storage is None:
        return None
    url = resolve(project.engines.storage, "storage", root)
    base = url if "://" in url else str((root / url).resolve())
    return "/".join([base.rstrip("/"), project.name, *([project.target] if project.target else [])])


def _register(store: Store, project: Project, text: str, actor: str) -> None:
    """Keep the project file's text with an event, so that each decision can be read beside the policy of its day.

    Everybody who reads the log reads it: passwords of URLs are left out.
    """
    text = without_secrets(text)
    box, name = tables.projects, project.name

    def known(tx: Tx) -> bool:
        return knows(tx, project) and tx.execute(select(box.c.file).where(box.c.name == name)).scalar() == text

    with store.read() as tx:
        if known(tx):
            return
    with store.begin() as tx:
        if known(tx):
            return  # another process that starts now was first
        meta.put(tx, _owner(name), project.target or "")
        writes.put(tx, box, {"name": name, "file": text, "updated_at": tx.now})
        tx.record(
            "project.set", name, project=name, actor=actor, reason="the project file was read", detail={"file": text}
        )


def knows(tx: Tx, project: Project) -> bool:
    """Whether this database is known to hold this project's rows for this target; refused when for another."""
    owner = meta.get(tx, _owner(project.name))
    if owner is not None and owner != (project.target or ""):
        raise InvalidProject(
            f"this database holds project {project.name} of {owner or 'no target'}, not of "
            f"{project.target or 'no target'}; give each target a database of its own"
        )
    return owner is not None


def _owner(name: str) -> str:
    return f"target/{name}"


def open_services(project_file: Path, state: Path | None = None, target: str | None = None) -> LocalServices:
    """Everything the API offers, in this process: for commands while no server runs."""
    context = open_context(project_file, state, target=target, actor="command line")
    return LocalServices(context, Controllers(context), replaying=False)
