"""Shipping to a storage beside the state folder: rows once, segments kept once, and nothing gone before."""

from __future__ import annotations

import asyncio
import json
import threading

import polars as pl
import pytest
from shipping_world import expected, mixed

from s3 import LOST, Fate
from trueline.data.delta_reader import open_table, scan_table
from trueline.errors import Unavailable
from trueline.journal import segments
from trueline.journal.segments import Writer
from trueline.shipping import ship
from trueline.shipping.service import Service
from trueline.shipping.ship import Shipper


def write(state, numbers: range) -> None:
    """A sealed segment for each number."""
    with Writer(state.journal("r0")) as writer:
        for number in numbers:
            writer.append(mixed(number))
            writer.seal()


def rows(storage, name: str) -> pl.DataFrame:
    place = storage.table(name)
    return scan_table(open_table(place), place).collect()


def shipped(storage) -> tuple[list[str], list[str]]:
    """The ids that are in both tables."""
    return (
        sorted(rows(storage, "predictions")["prediction_id"].to_list()),
        sorted(rows(storage, "labels")["label_id"].to_list()),
    )


def kept(storage) -> list[int]:
    return [int(key.rsplit("/", 1)[1].split("-")[0]) for key in storage.objects.list("journal/r0")]


def test_segments_are_shipped_and_kept_once_however_often(state, storage):
    write(state, range(1, 4))
    shipper = Shipper(state, "r0", storage)
    assert shipper.ship_sealed() == 3
    assert shipper.ship_sealed() == 3
    assert Shipper(state, "r0", storage).ship_sealed() == 3
    assert kept(storage) == [1, 2, 3]
    assert rows(storage, "labels").group_by("segment").len()["segment"].sort().to_list() == [1, 2, 3]
    (first, *_) = storage.objects.list("journal/r0")
    assert b"".join(storage.objects.read(first)) == segments.path_of(state.journal("r0"), 1).read_bytes()
    assert not (state.root / "tables" / "predictions").exists()


def test_what_is_shipped_is_what_a_local_folder_would_hold(state, storage):
    write(state, range(1, 4))
    Shipper(state, "r0", storage).ship_sealed()
    Shipper(state, "r0").ship_sealed()
    for name, keys in (("predictions", ("prediction_id", "version")), ("labels", ("label_id",))):
        assert rows(storage, name).sort(keys).equals(pl.read_delta(str(state.table(name))).sort(keys))


def test_nothing_is_deleted_before_it_is_kept(state, behind):
    proxy, storage = behind
    write(state, range(1, 4))
    proxy.does(Fate(503, "SlowDown", r"PUT /[^/]*/p/journal"))
    shipper = Shipper(state, "r0", storage)
    with pytest.raises(Unavailable, match="the service asks to slow down"):
        shipper.ship_sealed()
    assert (shipper.through, shipper.done) == (3, 0)
    assert shipper.delete_through(3) == []
    proxy.does()
    shipper.ship_sealed()
    assert shipper.delete_through(2) == [1, 2]
    assert kept(storage) == [1, 2, 3]


@pytest.mark.parametrize("lost", [r"PUT .*\.json", r"PUT .*\.parquet", r"PUT /[^/]*/p/journal"])
def test_what_the_service_did_without_saying_so_is_not_done_twice(state, behind, lost):
    proxy, storage = behind
    write(state, range(1, 2))
    Shipper(state, "r0", storage).ship_sealed()
    write(state, range(2, 4))
    proxy.does(Fate(LOST, pattern=lost, times=1, each=True))
    shipper = Shipper(state, "r0", storage)
    for _ in range(3):
        try:
            shipper.ship_sealed()
        except Unavailable:
            continue
    proxy.does()
    assert shipper.ship_sealed() == 3
    assert shipped(storage) == expected(range(1, 4))
    assert kept(storage) == [1, 2, 3]


def test_while_the_service_is_away_the_journal_waits_and_then_all_of_it_is_shipped(state, behind):
    proxy, storage = behind
    service = Service(state, "r0", storage)
    proxy.does(Fate(500, "InternalError"))
    for number in (1, 2):
        write(state, range(number, number + 1))
        asyncio.run(service.look())  # says so in the log, and goes on
    told = asyncio.run(service.answer(json.dumps({"op": "ship", "read_through": 10}).encode()))
    assert told["status"] == 503
    assert "the service failed; it is tried again" in told["error"]
    assert segments.numbers(state.journal("r0")) == [1, 2, 3]
    proxy.does()
    asyncio.run(service.look())
    assert shipped(storage) == expected(range(1, 3))
    assert kept(storage) == [1, 2]


def test_a_segment_that_is_only_not_kept_yet_is_something_to_look_at(state, behind):
    proxy, storage = behind
    service = Service(state, "r0", storage)
    write(state, range(1, 2))
    proxy.does(Fate(503, "SlowDown", r"PUT /[^/]*/p/journal"))
    asyncio.run(service.look())
    proxy.does()
    asyncio.run(service.look())
    assert kept(storage) == [1]


def test_upkeep_changes_no_row_and_forgets_no_progress(state, storage, monkeypatch):
    monkeypatch.setattr(ship, "UPKEEP_COMMITS", 3)
    shipper = Shipper(state, "r0", storage)
    for number in range(1, 8):
        write(state, range(number, number + 1))
        shipper.ship_sealed()
        shipper.delete_through(number)
    assert shipped(storage) == expected(range(1, 8))
    table = open_table(storage.table("labels"))
    assert table.transaction_version("r0") == 7
    assert len(table.file_uris()) < 7


class Power(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_shipper_that_ends_at_any_write_is_carried_on_by_the_next(state, storage, monkeypatch, cut):
    write(state, range(1, 3))
    left = [cut]

    def dying(function):
        def called(*given, **named):
            left[0] -= 1
            if not left[0]:
                raise Power
            return function(*given, **named)

        return called

    with monkeypatch.context() as patch:
        patch.setattr(ship, "write_deltalake", dying(ship.write_deltalake))
        patch.setattr(type(storage.objects), "put", dying(type(storage.objects).put))
        try:
            Shipper(state, "r0", storage).ship_sealed()
        except Power:
            assert not left[0]
    write(state, range(3, 4))
    assert Shipper(state, "r0", storage).ship_sealed() == 3
    assert shipped(storage) == expected(range(1, 4))
    assert kept(storage) == [1, 2, 3]


def test_shippers_at_once_make_the_tables_and_keep_each_segment_once(state, storage):
    write(state, range(1, 3))
    problems: list[BaseException] = []

    def run() -> None:
        try:
            Shipper(state, "r0", storage).ship_sealed()
        except BaseException as problem:  # noqa: BLE001  seen in the test
            problems.append(problem)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not problems
    assert shipped(storage) == expected(range(1, 3))
    assert kept(storage) == [1, 2]
