"""Opening a database: what it makes, what it refuses, and that each refusal is one sentence without a password."""

import signal
import subprocess
import sys
import threading

import pytest
from sqlalchemy import inspect, text

import postgres
from trueline.clock import SystemClock
from trueline.errors import InvalidInput, InvalidProject, TruelineError, Unavailable
from trueline.store import tables
from trueline.store.engine import open_store

OPEN = """
import sys
from trueline.clock import SystemClock
from trueline.store.engine import open_store
sys.stdin.readline()
open_store(sys.argv[1], SystemClock()).close()
"""


def write(where, statement):
    """As another program, or another version of this one, would."""
    store = open_store(where, SystemClock())
    with store.begin() as tx:
        tx.execute(text(statement))
    store.close()


def complaint(where):
    with pytest.raises(TruelineError) as caught:
        open_store(where, SystemClock())
    told = str(caught.value)
    assert postgres.PASSWORD not in told
    assert "\n" not in told
    return told


def test_the_migrations_give_the_tables_of_the_code(empty_database):
    store = open_store(empty_database, SystemClock())
    with store.read() as tx:
        assert set(tables.metadata.tables) <= set(inspect(tx.connection).get_table_names())
    store.close()


def test_a_schema_newer_than_the_program_is_refused_with_what_to_do(empty_database):
    write(empty_database, "update alembic_version set version_num = '9999'")
    told = complaint(empty_database)
    assert "has schema 9999, newer than this trueline knows (0001); upgrade trueline, or use another" in told


def test_a_database_of_another_program_is_left_alone(empty_database):
    write(empty_database, "update alembic_version set version_num = '76601a5f987d'")
    assert "holds tables of another program" in complaint(empty_database)
    write_nothing = "drop table alembic_version"
    with pytest.raises(Unavailable, match="another program"):
        write(empty_database, write_nothing)


def test_processes_that_start_at_once_on_an_empty_database_all_get_it(empty_database):
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(empty_database)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in starting:  # each imports first, and waits for the word
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in starting] == [""] * 3
    assert [process.returncode for process in starting] == [0] * 3


def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path):
    (tmp_path / "control.db").mkdir()
    assert "cannot be used now" in complaint(tmp_path / "control.db")
    (tmp_path / "text.db").write_text("not a database, but long enough to be read as the header of one" * 10)
    assert "cannot be used now: file is not a database" in complaint(tmp_path / "text.db")


@pytest.mark.parametrize(
    "url",
    ["mysql://ada:s3cret@db/x", "postgresql://ada:s3cret@with@at:port/x", "postgresql://[::1", "://s3cret"],
)
def test_what_is_no_url_of_postgresql_is_refused_without_being_quoted(url):
    with pytest.raises(InvalidProject, match="postgresql://user:password@host:5432/name") as caught:
        open_store(url, SystemClock())
    assert "s3cret" not in str(caught.value)


def test_wrong_credentials_are_told(postgresql):
    told = complaint(postgresql.url("postgres", password="wrong"))
    assert "refused to let trueline in" in told
    assert "check user and password in `database:`" in told
    assert "wrong" not in told
    assert "refused to let trueline in" in complaint(postgresql.url("postgres", password=""))
    assert "does not let nobody in from here" in complaint(postgresql.url("postgres", user="nobody"))


def test_a_database_that_is_not_there_is_told(postgresql):
    told = complaint(postgresql.url("churn"))
    assert 'database "churn" does not exist; create it with `createdb`' in told


def test_an_unreachable_server_is_told():
    free = postgres._free_port()
    told = complaint(f"postgresql://ada:{postgres.PASSWORD}@127.0.0.1:{free}/x")
    assert f"postgresql://ada@127.0.0.1:{free}/x cannot be reached" in told
    assert "is it running, and are host and port right?" in told
    assert "cannot be reached" in complaint(f"postgresql://ada:{postgres.PASSWORD}@no-such-host.invalid/x")


def test_an_option_that_the_driver_does_not_know_is_told(postgresql):
    assert 'cannot be used now: invalid connection option "nonsense"' in complaint(
        postgresql.url("postgres") + "?nonsense=1"
    )


def test_a_user_without_the_right_to_make_tables_is_told(postgresql):
    name = postgresql.fresh().rpartition("/")[2]
    told = complaint(postgresql.url(name, user="reader", password="reader"))
    assert "permission denied for schema public; give reader the right" in told


def test_a_restart_of_the_server_heals(postgresql, shared_postgresql):
    """A crash in mid-transaction is one sentence; the next transaction finds the server again and nothing half done."""
    postgresql.empty(shared_postgresql)
    store = open_store(shared_postgresql, SystemClock())
    with store.begin() as tx:
        tx.record("a.before", "x", project="p", actor="a", reason="r")

    def crashed():
        with store.begin() as tx:
            tx.record("a.during", "x", project="p", actor="a", reason="r")
            postgresql.stop(signal.SIGQUIT)

    with pytest.raises(Unavailable) as caught:
        crashed()
    assert postgres.PASSWORD not in str(caught.value)
    with pytest.raises(Unavailable, match="cannot be reached"), store.read():
        pass
    postgresql.start()
    with store.begin() as tx:
        kinds = [row.kind for row in tx.execute(tables.events.select())]
    assert kinds == ["a.before"]
    store.close()


def test_without_the_driver_the_extra_is_named(postgresql, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    told = complaint(postgresql.url("postgres"))
    assert "pip install 'trueline[postgresql]'" in told


def test_a_number_that_a_database_cannot_count_is_refused_in_words(database):
    store = open_store(database, SystemClock())
    with pytest.raises(InvalidInput, match="larger than any that is counted here"), store.read() as tx:
        tx.execute(tables.versions.select().where(tables.versions.c.number == 10**30))
    store.close()


def test_a_snapshot_does_not_see_what_is_committed_after_it_began(empty_database):
    store = open_store(empty_database, SystemClock())
    with store.read() as tx:
        assert tx.execute(tables.events.select()).all() == []
        with store.begin() as other:
            other.record("a.b", "x", project="p", actor="a", reason="r")
        assert tx.execute(tables.events.select()).all() == []
    store.close()


def test_a_read_needs_no_turn_and_a_second_writer_waits_for_the_first(empty_database):
    store = open_store(empty_database, SystemClock())
    order, began = [], threading.Event()

    def second():
        began.set()
        with store.begin():
            order.append("second")

    thread = threading.Thread(target=second)
    with store.begin():
        thread.start()
        began.wait(10)
        with store.read() as tx:
            tx.execute(tables.events.select()).all()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    store.close()


def test_a_writer_that_stops_in_mid_transaction_holds_nobody_up_for_long(postgresql, shared_postgresql):
    """It keeps its turn until the server puts it out; who waits meanwhile is told so, and does not hang."""
    postgresql.empty(shared_postgresql)
    stopped = open_store(f"{shared_postgresql}?options=-c idle_in_transaction_session_timeout=1s", SystemClock())
    waiting = open_store(f"{shared_postgresql}?options=-c lock_timeout=100ms", SystemClock())

    def stop():
        with stopped.begin() as tx:
            tx.record("a.stopped", "x", project="p", actor="a", reason="r")
            with pytest.raises(Unavailable, match="busy with other writes for too long"), waiting.begin():
                pass
            with postgresql.admin() as session:
                held = "select count(*) from pg_stat_activity where state = 'idle in transaction'"
                for _ in range(1000):
                    if session.execute(held).fetchone() == (0,):
                        break
                    session.execute("select pg_sleep(0.02)")
            tx.record("a.late", "x", project="p", actor="a", reason="r")

    with pytest.raises(Unavailable, match="ended a transaction that stood still"):
        stop()
    with waiting.begin() as tx:
        assert tx.execute(tables.events.select()).all() == []
    stopped.close()
    waiting.close()


def test_a_connection_that_is_in_use_while_the_store_closes_is_closed_when_it_comes_back(empty_database):
    store = open_store(empty_database, SystemClock())
    with store.read() as tx:
        store.close()
        used = tx.connection.connection.dbapi_connection
        tx.execute(text("select 1"))
    with pytest.raises(Exception, match="closed"):
        used.cursor().execute("select 1")
