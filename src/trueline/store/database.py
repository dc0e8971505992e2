"""What the store needs of a database product; `sqlite.py` and `postgresql.py` are the two there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError

from trueline.errors import TruelineError


@dataclass(frozen=True)
class Database:
    engine: Engine
    where: str  # as it may be printed
    elsewhere: str  # what to name when this one cannot be used
    snapshot: Mapping[str, Any]  # execution options of a transaction that only reads, from one moment
    take_turn: Callable[[Connection], datetime | None]  # wait to be the only writer; the database's own time, if any
    time: Callable[[Connection], datetime | None]  # that time, without waiting
    insert: Callable[[Table], Any]  # an INSERT that knows ON CONFLICT
    words: Callable[[DBAPIError], TruelineError | None]  # an error in a sentence; None when it is a defect
    patience: str | None = None  # a statement before a migration, which may take longer than all else
