"""Between targets: bringing a version from one to the next.

Both states are opened here, each with its own database and folder. The model's files are staged before the run that
takes them over is written, so that killed anywhere in between, asking again goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trueline.control import endpoints, promotions
from trueline.control.context import Context
from trueline.domain.promotions import BASE, following, path
from trueline.domain.runs import Run
from trueline.errors import Conflict, InvalidInput, InvalidProject, NotAllowed, NotFound
from trueline.pipelines import promoted
from trueline.projectfile import load
from trueline.settings import StateFolder, resolve, shown
from trueline.sockets import ring
from trueline.store.engine import schema_of
from trueline.wiring.opening import knows, open_context


@dataclass(frozen=True)
class Promotion:
    """A version on its way into a target: the run that takes it over there."""

    source: str
    destination: str
    version: int  # in the source
    digest: str  # in both
    run: str  # in the destination
    already: bool  # the destination knew this digest


def promote(
    project_file: Path,
    state: StateFolder,
    *,
    source: str | None,
    destination: str | None,
    version: int | None,
    actor: str,
    reason: str,
) -> Promotion:
    """Bring a version (the champion, unless one is named) from one target to the one after it.

    `state` is the folder that the targets' folders are in. None is the target before the first: the base.

    Raises:
        InvalidInput: that is not the target after the source.
        NotAllowed: the version is not approved in the source.
    """
    named = load(project_file).targets
    here, there = step(named, source, destination)
    with existing(project_file, state, here) as origin_side:
        with origin_side.store.read() as tx:
            number = version if version is not None else endpoints.get(tx, origin_side.project.name).champion
            if number is None:
                raise Conflict(f"nothing serves in {here} yet; say which version is to go to {there}")
            origin = promotions.describe(tx, origin_side.project.name, here, number)
        with opened(project_file, state, there) as context:
            project = context.project.name
            with context.store.read() as tx:
                known = promotions.known(tx, project, origin.digest)
            if known is None:
                promoted.stage(origin_side, origin, context)
            with context.store.begin() as tx:
                run: Run = promotions.request(tx, project, origin, actor=actor, reason=reason)
            ring(context.folder.sockets, "*")
    return Promotion(here, there, number, origin.digest, run.id, already=known is not None)


def step(targets: tuple[str, ...], source: str | None, destination: str | None) -> tuple[str, str]:
    """Where from and where to: one target further, never past one.

    >>> step(("dev", "prod"), None, None), step(("dev", "prod"), "dev", "prod")
    (('base', 'dev'), ('dev', 'prod'))
    """
    if not targets:
        raise InvalidProject("the project file names no targets; add, for example, targets: {dev: {}, prod: {}}")
    way = path(targets)
    here = source or BASE
    for name in (here, destination):
        if name is not None and name not in way:
            raise InvalidInput(f"there is no target {name}; the project file names {', '.join(targets)}")
    after = following(targets, here)
    if after is None:
        raise InvalidInput(f"{here} is the last target: {' → '.join(way)}")
    if destination is not None and destination != after:
        if way.index(destination) > way.index(here):
            raise NotAllowed(
                f"after {here} comes {after}, then {destination}: promote to {after} first, its gate decides"
            )
        raise InvalidInput(f"{destination} does not come after {here}: versions go {' → '.join(way)}")
    return here, after


@contextmanager
def opened(project_file: Path, state: StateFolder, target: str, *, looking: bool = False) -> Iterator[Context]:
    """The state of a target, closed afterwards."""
    name = None if target == BASE and BASE not in load(project_file).targets else target
    context = open_context(project_file, state.of(name).root, target=name, actor="command line", looking=looking)
    try:
        yield context
    finally:
        context.store.close()


@contextmanager
def existing(project_file: Path, state: StateFolder, target: str) -> Iterator[Context]:
    """The same for a target that must have been used already, to look at: nothing is made or changed."""
    name = None if target == BASE else target
    said, file = load(project_file, name).engines.database, state.of(name).database
    where = file if said is None else resolve(said, "database", project_file.resolve().parent)
    nothing = NotFound(f"nothing has run in {target} yet ({shown(str(where))} holds nothing of it)")
    if not _made(where):
        raise nothing
    with opened(project_file, state, target, looking=True) as context:
        with context.store.read() as tx:
            if not knows(tx, context.project):
                raise nothing
        yield context


def _made(where: Path | str) -> bool:
    """Whether a database has been used, told without making it."""
    return schema_of(where) is not None if "://" in str(where) else Path(where).exists()
