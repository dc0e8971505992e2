"""The database goes away in the middle of everything: one sentence, nothing half done, and on it goes by itself."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import create_engine, text

from trueline.clock import ManualClock
from trueline.control import runs
from trueline.domain.runs import Purpose, Run
from trueline.errors import Unavailable
from trueline.store import rows, sqlite
from trueline.store.engine import open_store


def start(tx) -> str:
    facts = {"purpose": Purpose.manual, "entry": "model.py:fit", "params": {}, "release": True, "actor": "ada"}
    return runs.start(tx, "p", window_from=tx.now, cut_at=tx.now, reason="asked", **facts).id


def asked(store) -> str:
    with store.begin() as tx:
        return start(tx)


def within(store, work) -> None:
    with store.begin() as tx:
        work(tx)


def there(store) -> list[str]:
    with store.read() as tx:
        return [run.id for run in rows.find(tx, Run)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.db"


@pytest.fixture
def store(path):
    opened = open_store(path, ManualClock())
    yield opened
    opened.close()


@pytest.fixture
def url(postgresql, shared_postgresql):
    postgresql.empty(shared_postgresql)
    return shared_postgresql


def away(path):
    """Move a database as it is, with its log, out of the way."""
    aside = path.with_name("aside.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.rename(aside)
    return aside


def test_a_file_that_is_gone_is_said_and_not_made_anew_and_goes_on_when_it_is_back(store, path):
    assert asked(store) == "run-1"
    aside = away(path)
    for act in (asked, there, asked):
        with pytest.raises(Unavailable, match="is gone; put it back and it goes on by itself"):
            act(store)
    assert not path.exists()
    aside.rename(path)
    assert asked(store) == "run-2"
    assert there(store) == ["run-1", "run-2"]


def test_a_file_that_goes_in_mid_transaction_acknowledges_nothing(store, path):
    asked(store)
    aside = path.with_name("aside.db")

    def robbed(tx) -> None:
        start(tx)
        path.rename(aside)

    with pytest.raises(Unavailable, match="taken away before the change was kept"):
        within(store, robbed)
    aside.rename(path)
    assert there(store) == ["run-1"]
    assert asked(store) == "run-2"


def test_a_copy_that_is_put_in_its_place_is_what_is_written_from_then_on(store, path):
    asked(store)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", [str(path.with_name("copy.db"))])
    asked(store)
    away(path)
    shutil.move(path.with_name("copy.db"), path)
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    assert there(store) == ["run-1"]
    assert asked(store) == "run-2"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (2,)


def test_a_database_that_another_program_locks_is_waited_for_and_then_said(path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    store = open_store(path, ManualClock())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="was busy"):
            asked(store)
        assert there(store) == [], "who only reads is not kept waiting"
        other.execute("ROLLBACK")
    assert asked(store) == "run-1"
    store.close()


def test_a_file_that_is_no_database_any_more_is_said(store, path):
    asked(store)
    aside = away(path)
    path.write_bytes(b"not a database, whatever it was before" * 100)
    with pytest.raises(Unavailable, match="restore a copy of it"):
        asked(store)
    path.unlink()
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    aside.rename(path)
    assert asked(store) == "run-2"


def test_a_backend_that_is_terminated_in_mid_transaction_leaves_nothing_and_the_next_begins_anew(url):
    store = open_store(url, ManualClock())
    asked(store)

    def ended(tx) -> None:
        start(tx)
        terminate(url, tx.execute(text("select pg_backend_pid()")).scalar_one())
        start(tx)

    for _ in range(20):
        with pytest.raises(Unavailable) as told:
            within(store, ended)
        assert "\n" not in str(told.value)
    assert there(store) == ["run-1"]
    assert asked(store) == "run-2", "no number is lost to those that were not kept"
    store.close()


def test_every_backend_terminated_between_two_transactions_is_not_even_noticed(url):
    store = open_store(url, ManualClock())
    asked(store)
    terminate(url)
    assert asked(store) == "run-2"
    store.close()


def terminate(url: str, process: int | None = None) -> None:
    """End one connection of the server, or all but our own."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    which = "pid = :pid" if process else "pid != pg_backend_pid() and datname = current_database()"
    with engine.connect() as connection:
        connection.execute(
            text(f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where {which}"),  # noqa: S608 our own words
            {"pid": process} if process else {},
        )
    engine.dispose()
