"""The same world on PostgreSQL: each process in sessions of its own, and left standing or killed inside a transaction too.

Who would wait in the server for the turn to write could not be woken by whom it waits for, all being one thread: it asks
whether the turn is free, and stands at the boundary `turn` when it is not. The session of a process that is killed is
closed as the kernel would close it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from fault_world import World
from greenlet import getcurrent, greenlet
from sqlalchemy import Connection, event, text

from trueline.store import postgresql, tables
from trueline.store.database import Database

NAMES = [table.name for table in tables.metadata.sorted_tables]
IS_FREE = text(str(postgresql.TURN).replace("pg_advisory", "pg_try_advisory"))


@dataclass(frozen=True)
class Raw:
    """Plain SQL in SQLite's way, in a session beside those of the processes."""

    connection: psycopg.Connection[Any]

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        return self.connection.execute(statement.replace("?", "%s"), values or None)  # type: ignore[arg-type]


class PostgresWorld(World):
    def __init__(self, root: Path, url: str) -> None:
        self._url = url
        self._writing: set[greenlet] = set()
        self._turn: greenlet | None = None  # whose it is to write
        self._dying = False
        super().__init__(root)

    @property
    def writing(self) -> bool:
        """Whether who asks is in a write transaction."""
        return getcurrent() in self._writing

    @writing.setter
    def writing(self, on: bool) -> None:
        here = getcurrent()
        (self._writing.add if on else self._writing.discard)(here)
        if not on and self._turn is here:
            self._turn = None

    def open(self) -> Database:
        self.raw = Raw(psycopg.connect(self._url, autocommit=True))
        database = postgresql.connect(self._url)
        dialect: Any = database.engine.dialect
        commit, rollback = dialect.do_commit, dialect.do_rollback

        def statement(*_: object) -> None:
            self._inside("statement")

        def do_commit(connection: Any) -> None:
            self._inside("commit")
            commit(connection)
            self._inside("committed")

        def do_rollback(connection: Any) -> None:
            if self._dying:
                connection.close()  # the server hears no more of it
            else:
                rollback(connection)

        event.listen(database.engine, "before_cursor_execute", statement)

        def take_turn(connection: Connection) -> Any:
            here = getcurrent()
            while here.parent is not None and not connection.execute(IS_FREE).one()[0]:
                self.hit("turn")
            self._turn = here
            return database.take_turn(connection)

        dialect.do_commit, dialect.do_rollback = do_commit, do_rollback
        return replace(database, take_turn=take_turn)

    def close(self) -> None:
        self.engine.dispose()
        self.raw.connection.close()

    def _inside(self, name: str) -> None:
        if self.fine:
            self.hit(name)

    @contextmanager
    def dying(self) -> Iterator[None]:
        self._dying, had = True, self._turn
        try:
            yield
        finally:
            self._dying = False
        if had is not None and self._turn is None:
            self.raw.execute(str(postgresql.TURN))  # the server has seen that it is gone

    def image(self) -> Any:
        kept = []
        with self.raw.connection.cursor() as cursor:
            for name in NAMES:
                with cursor.copy(f'copy "{name}" to stdout') as copy:  # type: ignore[arg-type]
                    kept.append((name, b"".join(copy)))
        sequences = self.raw.execute("select sequencename, coalesce(last_value, 0) from pg_sequences").fetchall()
        return tuple(kept), tuple(sequences)

    def put_back(self, image: Any) -> None:
        rows, sequences = image
        self._writing, self._turn = set(), None
        with self.raw.connection.transaction(), self.raw.connection.cursor() as cursor:
            cursor.execute("; ".join(f'delete from "{name}"' for name in reversed(NAMES)))  # type: ignore[arg-type]  # noqa: S608
            for name, text in rows:
                if text:
                    with cursor.copy(f'copy "{name}" from stdin') as copy:  # type: ignore[arg-type]
                        copy.write(text)
            for name, last in sequences:
                cursor.execute("select setval(%s, %s, %s)", (name, max(last, 1), last > 0))
