"""Reading: rows become the domain's frozen values. Column names are field names, so one loader serves every noun."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Select, Table, select

from trueline.domain.blocks import Block
from trueline.domain.datasets import DatasetVersion
from trueline.domain.events import Event
from trueline.domain.gates import Gate
from trueline.domain.incidents import Incident
from trueline.domain.releases import Release
from trueline.domain.runs import Run
from trueline.domain.steps import Step
from trueline.domain.versions import Version
from trueline.errors import NotFound
from trueline.store import tables
from trueline.store.engine import Tx

T = TypeVar("T")

TABLES: dict[type, Table] = {
    Block: tables.blocks,
    DatasetVersion: tables.datasets,
    Event: tables.events,
    Gate: tables.gates,
    Incident: tables.incidents,
    Release: tables.releases,
    Run: tables.runs,
    Step: tables.steps,
    Version: tables.versions,
}


@cache
def _reading(noun: Hashable, *, newest: bool) -> Select[Any]:
    """The statement that all readings of a noun begin with; putting it together costs more than asking for a row."""
    known: Any = noun
    table = TABLES[known]
    order: list[ColumnElement[Any]] = [
        table.c[name] for name in ("number", "day", "opened_at", "id") if name in table.c
    ]
    columns = [table.c[field.name] for field in fields(known)]
    return select(*columns).order_by(*([one.desc() for one in order] if newest else order))


def find(tx: Tx, noun: type[T], *where: ColumnElement[bool], newest: bool = False, limit: int | None = None) -> list[T]:
    """The rows that satisfy every condition, oldest first unless `newest`."""
    statement = _reading(cast("Hashable", noun), newest=newest).where(*where)
    if limit is not None:
        statement = statement.limit(limit)
    return [noun(*row) for row in tx.execute(statement)]


def first(tx: Tx, noun: type[T], *where: ColumnElement[bool], newest: bool = False) -> T | None:
    found = find(tx, noun, *where, newest=newest, limit=1)
    return found[0] if found else None


def get(tx: Tx, noun: type[T], row_id: str) -> T:
    """The row of that id, or `NotFound`."""
    table = TABLES[noun]
    found = first(tx, noun, table.c.id == row_id)
    if found is None:
        raise NotFound(f"there is no {noun.__name__.lower()} {row_id}")
    return found


def get_where(tx: Tx, noun: type[T], what: str, *where: ColumnElement[bool]) -> T:
    """The one row of those conditions, or `NotFound` naming `what`."""
    found = first(tx, noun, *where)
    if found is None:
        raise NotFound(f"there is no {what}")
    return found
