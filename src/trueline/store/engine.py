"""The database: opening it, its transactions, and its errors in our words.

Write transactions take turns, on either database; `begin` returns when it is this one's. Inside a transaction only
the database is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, event, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from trueline.clock import Clock, SystemClock
from trueline.errors import TruelineError, Unavailable
from trueline.store import schema, sqlite, tables
from trueline.store.database import Database


@dataclass(frozen=True)
class Tx:
    """One transaction: a connection and the two times, fixed for its length."""

    connection: Connection
    now: datetime
    time: Callable[[], datetime]
    insert: Callable[[Table], Any]

    @cached_property
    def wall(self) -> datetime:
        """Processing time as all who share the database see it: on PostgreSQL the server's."""
        return self.time()

    def execute(self, statement: Any, values: Any = None) -> Any:
        return self.connection.execute(statement, values) if values is not None else self.connection.execute(statement)

    def record(
        self, kind: str, ref: str, *, project: str, actor: str, reason: str, detail: dict[str, Any] | None = None
    ) -> None:
        """Write the event that belongs to a change made in this transaction."""
        row = {
            "at": self.now,
            "wall_at": self.wall,
            "project": project,
            "kind": kind,
            "ref": ref,
            "actor": actor,
            "reason": reason,
            "detail": detail or {},
        }
        self.execute(insert(tables.events), row)


class Store:
    """The control plane's database behind transactions."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._guard: Callable[[Tx], None] | None = None
        self.clock = clock

    def guarded(self, guard: Callable[[Tx], None]) -> Store:
        """The same database for a writer who must still be entitled: `guard` is asked first in each write, and raises."""
        entitled = copy(self)
        entitled._guard = guard  # noqa: SLF001 the same class
        return entitled

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """A write transaction: all of it or nothing, and no other writes meanwhile."""
        with self._in_words(), self._database.engine.begin() as connection:
            tx = self._tx(connection, self._database.take_turn(connection))
            if self._guard is not None:
                self._guard(tx)
            yield tx

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A consistent snapshot; waits for no writer."""
        engine = self._database.engine
        with self._in_words(), engine.connect().execution_options(**self._database.snapshot) as connection:
            yield self._tx(connection, None)
            connection.rollback()

    def _tx(self, connection: Connection, wall: datetime | None) -> Tx:
        """A clock turned by hand is obeyed on every database."""
        clock, database = self.clock, self._database

        def time() -> datetime:
            shared = (wall or database.time(connection)) if isinstance(clock, SystemClock) else None
            return shared or clock.wall()

        return Tx(connection, clock.now(), time, database.insert)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as problem:
            told = self._database.words(problem)
            if told is None:
                raise
            raise told from problem
        except PoolExhausted as problem:
            raise Unavailable(
                f"all connections to the database {self._database.where} are in use; try again"
            ) from problem

    def close(self) -> None:
        """Close every connection: those that a thread still uses as soon as it gives them back."""
        engine = self._database.engine
        event.listen(engine, "checkin", _close_returned)
        engine.dispose()


def _close_returned(connection: Any, record: Any) -> None:  # noqa: ARG001  the event's own arguments
    record.invalidate()


def open_store(where: Path | str, clock: Clock) -> Store:
    """Open or create the database at a path (SQLite) or of a URL (PostgreSQL), brought to the newest schema.

    Raises:
        InvalidProject: the URL is not one.
        Unavailable: it cannot be opened or reached, or was made by a newer trueline.
    """
    database = _database(where)
    store = Store(database, clock)
    try:
        with store._in_words():  # noqa: SLF001 the same module
            schema.bring_to_head(database)
    except TruelineError:
        store.close()
        raise
    return store


def schema_of(where: Path | str) -> str | None:
    """The migration that a database is at, None for an empty one; nothing is changed.

    Raises:
        InvalidProject, Unavailable: as for `open_store`.
    """
    database = _database(where)
    store = Store(database, SystemClock())
    try:
        with store._in_words():  # noqa: SLF001 the same module
            return schema.current(database)
    finally:
        store.close()


def _database(where: Path | str) -> Database:
    if isinstance(where, str) and "://" in where:
        from trueline.store import postgresql  # noqa: PLC0415 a driver that only some install

        return postgresql.connect(where)
    return sqlite.connect(Path(where))
