"""Several writers at once, each with a connection of its own: nothing is lost, doubled or seen out of order."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError

from trueline.errors import Conflict
from trueline.store import meta, moves, outbox, tables, writes
from trueline.store.engine import open_store

WRITERS = 4
TIMES = 15


@pytest.fixture
def race(database, clock):
    """Do something from several threads at the same moment, each with its own store; what each time gave."""

    def racing(act):
        start = threading.Barrier(WRITERS)

        def work(writer):
            own = open_store(database, clock)
            start.wait(30)
            try:
                return [act(own, writer, time) for time in range(TIMES)]
            finally:
                own.close()

        with ThreadPoolExecutor(WRITERS) as pool:
            return [one for found in pool.map(work, range(WRITERS)) for one in found]

    return racing


def test_numbers_are_given_once_and_without_gaps(race):
    def draw(store, *_):
        with store.begin() as tx:
            return moves.number(tx, "p", "run")

    assert sorted(race(draw)) == list(range(1, WRITERS * TIMES + 1))


def test_an_intent_is_put_once_however_many_want_it(race, store):
    def put(own, writer, time):
        with own.begin() as tx:
            outbox.put(tx, "p", "route", f"route/{time}", {"by": writer})

    race(put)
    with store.read() as tx:
        assert outbox.count_open(tx, "p", ("route",)) == TIMES


def test_the_last_of_several_facts_stays(race, store):
    def put(own, writer, time):
        with own.begin() as tx:
            meta.put(tx, "key", f"{writer} {time}")

    race(put)
    with store.read() as tx:
        assert (meta.get(tx, "key") or "").endswith(f" {TIMES - 1}")


def test_a_question_and_its_answer_are_one_step(race, store):
    """What would lose counts under READ COMMITTED alone: read, think, write."""

    def count(own, *_):
        with own.begin() as tx:
            found = int(meta.get(tx, "count") or 0)
            meta.put(tx, "count", str(found + 1))

    race(count)
    with store.read() as tx:
        assert meta.get(tx, "count") == str(WRITERS * TIMES)


def test_a_reader_that_follows_the_log_misses_no_event(race, store):
    """Ids are committed in their order, so the highest that was seen is where to go on."""
    done, seen = threading.Event(), []

    def follow():
        last = 0
        while True:
            ending = done.is_set()
            with store.read() as tx:
                box = tables.events
                found = [row.id for row in tx.execute(box.select().where(box.c.id > last).order_by(box.c.id))]
            seen.extend(found)
            last = max(found, default=last)
            if ending:
                return

    def write(own, writer, time):
        with own.begin() as tx:
            for number in range(3):
                tx.record("a.b", f"{writer} {time} {number}", project="p", actor="a", reason="r")

    following = threading.Thread(target=follow)
    following.start()
    race(write)
    done.set()
    following.join()
    assert len(seen) == len(set(seen)) == WRITERS * TIMES * 3


def test_a_unique_key_that_is_taken_is_a_conflict_and_a_missing_value_a_defect(store):
    row = {"name": "p", "file": "", "updated_at": store.clock.now()}

    def insert(values):
        with store.begin() as tx:
            tx.execute(tables.projects.insert(), values)

    insert(row)
    with pytest.raises(Conflict, match="somebody else was first"):
        insert(row)
    with pytest.raises(IntegrityError):
        insert({**row, "name": "q", "file": None})


def test_adding_tells_whether_it_was_there(store):
    with store.begin() as tx:
        assert writes.add(tx, tables.units, {"release": "r", "unit": "ada", "request": "1"})
        assert not writes.add(tx, tables.units, {"release": "r", "unit": "ada", "request": "2"})
        assert [row.request for row in tx.execute(tables.units.select())] == ["1"]


@pytest.mark.parametrize("value", ["a\0b", "half a \ud83d pair", "x" * 5000, "'; drop table meta; --"])
def test_any_text_can_be_kept(store, value):
    with store.begin() as tx:
        tx.record("a.b", "x", project="p", actor=value, reason=value, detail={"said": value, "figure": float("nan")})
        (event,) = tx.execute(tables.events.select())
    assert event.detail["said"] == value
    assert event.detail["figure"] != event.detail["figure"]
    assert event.reason.replace("\\x00", "\0").replace("\\ud83d", "\ud83d") == value
