"""The newest names of a noun straight from SQLite, for shell completion: it cannot wait for SQLAlchemy to load."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

QUERIES = {
    "versions": "SELECT CAST(number AS TEXT), state FROM versions ORDER BY number DESC LIMIT ?",
    "runs": "SELECT id, state FROM runs ORDER BY number DESC LIMIT ?",
    "releases": "SELECT id, state FROM releases ORDER BY number DESC LIMIT ?",
}
BUSY_SECONDS = 0.2


def newest(database: Path, noun: str, limit: int) -> list[tuple[str, str]]:
    """Names with their states, newest first; none when the database cannot be read just now."""
    try:
        address = f"file:{database.absolute().as_posix()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
            return [(str(name), str(state)) for name, state in connection.execute(QUERIES[noun], (limit,))]
    except sqlite3.Error:
        return []
