"""The database: opening it, its transactions, and its errors in our words.

A write transaction takes the write lock at once (`BEGIN IMMEDIATE`): with SQLite's deferred `BEGIN`, two writers that
both read first end in "database is locked" for the loser whatever the time-out. Inside a transaction only the
database is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import NullPool

from trueline.clock import Clock
from trueline.errors import Conflict, Unavailable
from trueline.store import tables

HEAD = "0001"
"""The newest migration. Change it in the commit that adds one to `migrations/versions`."""

BUSY_SECONDS = 15


@dataclass(frozen=True)
class Tx:
    """One transaction: a connection and the two times, fixed for its length."""

    connection: Connection
    now: datetime
    wall: datetime

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

    def __init__(self, engine: Engine, clock: Clock, where: str) -> None:
        self._engine = engine
        self._where = where
        self.clock = clock

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """A write transaction: all of it or nothing."""
        with self._translated(), self._engine.begin() as connection:
            yield Tx(connection, self.clock.now(), self.clock.wall())

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A consistent snapshot without the write lock."""
        with self._translated(), self._engine.connect().execution_options(trueline_read=True) as connection:
            yield Tx(connection, self.clock.now(), self.clock.wall())
            connection.rollback()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as problem:
            raise Conflict(f"somebody else was first: {problem.orig}") from problem
        except OperationalError as problem:
            raise Unavailable(f"the database {self._where} cannot be used now: {problem.orig}") from problem
        except DBAPIError as problem:
            raise Unavailable(f"the database {self._where} refused: {problem.orig}") from problem

    def close(self) -> None:
        self._engine.dispose()


def open_sqlite(path: Path, clock: Clock) -> Store:
    """Open or create the database at `path`, brought to the newest schema.

    Raises:
        Unavailable: the file cannot be opened, or was made by a newer trueline.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=NullPool if str(path) == ":memory:" else None,
        connect_args={"timeout": BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")  # survives the death of any process; see docs/decisions/0003
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("trueline_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    store = Store(engine, clock, str(path))
    with store._translated():  # noqa: SLF001 the same module
        _bring_to_head(engine, path)
    return store


def _bring_to_head(engine: Engine, path: Path) -> None:
    with engine.connect().execution_options(trueline_read=True) as connection:
        known = connection.execute(text("select name from sqlite_master where name = 'alembic_version'")).first()
        current = connection.execute(text("select version_num from alembic_version")).scalar() if known else None
        connection.rollback()
    if current == HEAD:
        return
    if current is not None and current > HEAD:
        raise Unavailable(
            f"{path} has schema {current}, newer than this trueline knows ({HEAD}); upgrade trueline, or use another --state"
        )
    from trueline.store.migrate import upgrade  # noqa: PLC0415 alembic is only needed when there is something to do

    upgrade(engine)
