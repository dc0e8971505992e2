"""What differs between two targets: the project file's values in force, and what runs there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from trueline.control import endpoints, runs
from trueline.control.context import Context
from trueline.domain.promotions import BASE
from trueline.domain.runs import Run
from trueline.errors import NotFound
from trueline.projectfile.provenance import Setting, settings
from trueline.settings import StateFolder, shown
from trueline.store import rows, tables
from trueline.wiring.environments import existing


@dataclass(frozen=True)
class Differing:
    """One key with its value in each target; None where the key is in one of them only."""

    key: str
    left: str | None
    right: str | None


@dataclass(frozen=True)
class Serving:
    """What a target serves."""

    champion: int | None = None
    digest: str | None = None
    since: datetime | None = None
    trained_to: datetime | None = None
    dataset: str | None = None  # digest of the dataset version it was trained on
    came_from: str | None = None  # the target and version it was promoted from
    digests: tuple[str, ...] = ()  # of every version


@dataclass(frozen=True)
class Difference:
    left: str
    right: str
    settings: tuple[Differing, ...]
    serves: tuple[Serving | None, Serving | None]  # None: nothing has run there yet
    same_champion: bool
    sentence: str


def difference(project_file: Path, state: StateFolder, left: str, right: str) -> Difference:
    """Compare two targets; looking changes neither."""
    first, second = (_serving(project_file, state, target) for target in (left, right))
    same = first is not None and second is not None and first.digest is not None and first.digest == second.digest
    return Difference(
        left,
        right,
        _differing(*(_in_force(project_file, target) for target in (left, right))),
        (first, second),
        same,
        _sentence(left, right, first, second, same=same),
    )


def _in_force(project_file: Path, target: str) -> dict[str, Setting]:
    found = settings(project_file, None if target == BASE else target)
    return {one.key: one for one in found if one.key != "targets"}


def _differing(left: dict[str, Setting], right: dict[str, Setting]) -> tuple[Differing, ...]:
    def value(side: dict[str, Setting], key: str) -> str | None:
        return shown(side[key].value) if key in side else None

    every = (Differing(key, value(left, key), value(right, key)) for key in dict.fromkeys([*left, *right]))
    return tuple(one for one in every if one.left != one.right)


def _serving(project_file: Path, state: StateFolder, target: str) -> Serving | None:
    try:
        with existing(project_file, state, target) as context:
            return _look(context)
    except NotFound:
        return None


def _look(context: Context) -> Serving:
    project, box = context.project.name, tables.versions
    with context.store.read() as tx:
        digests = tx.execute(select(box.c.digest).where(box.c.project == project).order_by(box.c.number)).scalars()
        known = tuple(dict.fromkeys(digests))
        endpoint = endpoints.get(tx, project)
        if endpoint.champion is None:
            return Serving(digests=known)
        version = runs.version(tx, project, endpoint.champion)
        run = rows.get(tx, Run, version.run)
        origin = run.origin or {}
        data = tables.datasets
        trained_on = select(data.c.digest).where(data.c.project == project, data.c.number == run.dataset)
        return Serving(
            champion=version.number,
            digest=version.digest,
            since=endpoint.champion_since,
            trained_to=version.trained_to,
            dataset=origin.get("dataset_digest") or tx.execute(trained_on).scalar(),
            came_from=f"version {origin['version']} of {origin['target']}" if origin else None,
            digests=known,
        )


def _sentence(left: str, right: str, first: Serving | None, second: Serving | None, *, same: bool) -> str:
    for name, side in ((left, first), (right, second)):
        if side is None:
            return f"nothing has run in {name} yet"
        if side.champion is None:
            return f"nothing serves in {name} yet"
    here, there = first or Serving(), second or Serving()
    if same:
        return f"both serve the same model: version {here.champion} of {left} is version {there.champion} of {right}"
    been = "has been there" if here.digest in there.digests else "has not been there"
    return (
        f"{left} serves version {here.champion}, {right} serves version {there.champion}, another model; "
        f"the one of {left} {been}"
    )
