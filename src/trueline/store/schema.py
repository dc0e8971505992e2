"""The schema of a database: looked at on opening, and brought to the newest with Alembic."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from trueline.errors import Unavailable
from trueline.store.database import Database

HEAD = "0001"
"""The newest migration. Change it in the commit that adds one to `migrations/versions`."""

OURS = re.compile(r"\d{4}")


def bring_to_head(database: Database) -> None:
    """Make what is missing. Any number of processes may do this at once: they take turns, and the first does it.

    Raises:
        Unavailable: the schema is newer than this program, or another program's.
    """
    if current(database) == HEAD:
        return
    with database.engine.begin() as connection:
        if database.patience:
            connection.exec_driver_sql(database.patience)
        database.take_turn(connection)
        if _current(database, connection) != HEAD:
            _upgrade(connection)


def current(database: Database) -> str | None:
    """The migration that the database is at; None when it is empty.

    Raises:
        Unavailable: the schema is newer than this program, or another program's.
    """
    with database.engine.connect().execution_options(**database.snapshot) as connection:
        found = _current(database, connection)
        connection.rollback()
        return found


def _current(database: Database, connection: Connection) -> str | None:
    """The migration that the database is at; None when it is empty."""
    tables = inspect(connection).get_table_names()
    current = None
    if "alembic_version" in tables:
        current = str(connection.execute(text("select version_num from alembic_version")).scalar())
    if (current is None and tables) or (current is not None and not OURS.fullmatch(current)):
        raise Unavailable(
            f"the database {database.where} holds tables of another program ({', '.join(sorted(tables)[:3])} …); "
            f"give trueline {database.elsewhere}"
        )
    if current is not None and current > HEAD:
        raise Unavailable(
            f"the database {database.where} has schema {current}, newer than this trueline knows ({HEAD}); "
            f"upgrade trueline, or use {database.elsewhere}"
        )
    return current


def _upgrade(connection: Connection) -> None:
    """In the caller's transaction: all of it or nothing."""
    from alembic import command  # noqa: PLC0415 only needed when there is something to do
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
