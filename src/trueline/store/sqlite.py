"""SQLite: one file, for the processes of one machine.

A write transaction takes the write lock at once (`BEGIN IMMEDIATE`): with SQLite's deferred `BEGIN`, two writers that
both read first end in "database is locked" for the loser whatever the time-out.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import NullPool

from trueline.errors import Conflict, InvalidInput, TruelineError, Unavailable
from trueline.store.database import Database

BUSY_SECONDS = 15
READING = "trueline_read"


def connect(path: Path) -> Database:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=NullPool if str(path) == ":memory:" else None,
        connect_args={"timeout": BUSY_SECONDS},
    )
    if str(path) != ":memory:":
        _keep_to_the_file(engine, path)

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
        reading = connection.get_execution_options().get(READING)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    @event.listens_for(engine, "handle_error")
    def _too_large(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, OverflowError):  # the driver's own, and no error of a database
            raise InvalidInput("a number is larger than any that is counted here; correct it")

    return Database(
        engine=engine,
        where=str(path),
        elsewhere="another --state",
        snapshot={READING: True},
        take_turn=_no_time,  # `BEGIN IMMEDIATE` has waited already
        time=_no_time,
        insert=insert,
        words=partial(words, where=str(path)),
    )


def _keep_to_the_file(engine: Engine, path: Path) -> None:
    """Never write to a file that is gone: open connections would, unnoticed, and lose what they were told to keep.

    A file that was removed is not made anew either. One that was put in its place (a restored copy) is opened.
    """
    opened: set[tuple[int, int] | None] = set()

    @event.listens_for(engine, "do_connect")
    def _there(*_: object) -> None:
        if opened and not path.exists():
            raise Unavailable(f"the database {path} is gone; put it back and it goes on by itself, or restart trueline")

    @event.listens_for(engine, "connect")
    def _opened(_connection: object, record: Any) -> None:
        record.info["file"] = _file(path)
        opened.add(record.info["file"])

    @event.listens_for(engine, "checkout")
    def _same(_connection: object, record: Any, _proxy: object) -> None:
        if record.info["file"] != _file(path):
            raise DisconnectionError

    @event.listens_for(engine, "commit")
    def _still_the_same(connection: Connection) -> None:
        if connection.connection.info["file"] != _file(path):
            raise Unavailable(f"the database {path} was taken away before the change was kept; it is tried again")


def _file(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _no_time(_connection: Connection) -> None:
    """SQLite has no clock but the machine's, which is everybody's who uses the file."""


def words(problem: DBAPIError, where: str) -> TruelineError | None:
    """What went wrong, from the name SQLite has for it."""
    name = str(getattr(problem.orig, "sqlite_errorname", ""))
    if name in {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}:
        return Conflict(f"somebody else was first: {problem.orig}")
    if name.startswith("SQLITE_CONSTRAINT"):
        return None
    told = next((words for start, words in TROUBLE.items() if name.startswith(start)), "cannot be used now: {said}")
    return Unavailable(f"the database {where} {told.format(said=problem.orig)}")


TROUBLE = {
    "SQLITE_FULL": "has no room left: {said}; make room on its disk and it goes on by itself",
    "SQLITE_BUSY": f"was busy for {BUSY_SECONDS} s; try again",
    "SQLITE_NOTADB": "cannot be used now: {said}; restore a copy of it, or use another --state",
    "SQLITE_CORRUPT": "cannot be used now: {said}; restore a copy of it, or use another --state",
}
