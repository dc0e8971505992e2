"""A full disk, again and again: writes are refused in a sentence, predictions go on, and with room everything does."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from disks import disk, fill, mountable
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import Fake, Running, table
from sqlalchemy import func, select

from real import need
from trueline.clock import SystemClock
from trueline.control import runs
from trueline.domain.runs import Purpose
from trueline.errors import NotRecorded, Unavailable
from trueline.journal import segments
from trueline.journal.records import LabelRecord, PredictionRecord
from trueline.journal.segments import Writer
from trueline.serving.server import Config
from trueline.settings import StateFolder
from trueline.shipping.ship import Shipper
from trueline.store.engine import open_store

pytestmark = pytest.mark.real

ROWS = {"instances": [{"x": float(number), "n": number} for number in range(60)]}
CYCLES = {"tmpfs": 120, "ext4": 80}
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
RESUMES_WITHIN = 10.0  # seconds; each step is asked for once and takes a tenth of one, so a slow machine passes too
ENOUGH = 60  # requests, by which the last half block is full too


class Shop:
    """A model server and a control plane with their state on one small disk, and what they have promised."""

    def __init__(self, root: Path) -> None:
        self.state = StateFolder(root / "state").create()
        self.filler = root / "filler"
        self.store = open_store(self.state.database, SystemClock())
        self.server = self.start()
        self.predictions: list[str] = []
        self.labels: list[str] = []
        self.runs: list[str] = []
        self.unrecorded = 0
        self.said: set[str] = set()  # by the database

    def start(self) -> Running:
        server = Running(Config(state=self.state, port=0), {1: Fake(1)})
        server.start()
        if not server.server.plane.versions.standing.ready:
            server.put(table())
        return server

    def predict(self) -> bool:
        """Ask for predictions, which always come; whether they are recorded."""
        reply = self.server.post("/predict", ROWS)
        assert reply.status == 200
        ids = reply.json["prediction_ids"]
        if ids[0] is None:
            assert reply.headers["trueline-unrecorded"]
            self.unrecorded += 1
            return False
        self.predictions.append(ids[0].rpartition("-")[0])
        return True

    def label(self) -> bool:
        given = [{"prediction_id": f"{self.predictions[0]}-{row}", "value": row} for row in range(40)]
        reply = self.server.post("/labels", {"labels": given})
        if reply.status != 200:
            assert reply.status == 503
            assert "free some disk space" in reply.error
            return False
        self.labels += reply.json["label_ids"]
        return True

    def command(self) -> bool:
        """Ask control's database for a run."""
        try:
            with self.store.begin() as tx:
                at = tx.now
                run = runs.start(
                    tx,
                    "p",
                    purpose=Purpose.manual,
                    entry="model.py:fit",
                    params={"padding": "x" * 8000},
                    window_from=at,
                    cut_at=at,
                    release=True,
                    actor="ada",
                    reason="asked",
                )
        except Unavailable as problem:
            self.said.add(str(problem))
            return False
        self.runs.append(run.id)
        return True

    def checkpoint(self) -> None:
        """Leave the database no room in its write-ahead log."""
        with closing(sqlite3.connect(self.state.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def readable(self) -> bool:
        with self.store.read() as tx:
            return tx.execute(select(func.count()).select_from(runs.tables.runs)).scalar_one() == len(self.runs)

    def ship(self) -> None:
        sealed = self.server.admin("seal")
        if not sealed["ok"]:
            raise Unavailable(sealed["error"])
        Shipper(self.state, "r0").ship_sealed()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CYCLES)
def test_a_disk_that_fills_up_again_and_again_costs_only_what_is_counted(kind, tmp_path, capsys):
    need(mountable(), "the right to mount a small disk (root)")
    slowest = 0.0
    with disk(kind, tmp_path, 24) as root:
        shop = Shop(root)
        assert shop.predict()
        for cycle in range(CYCLES[kind]):
            shop.checkpoint()
            if cycle % 20 == 7:
                shop.server.admin("seal")
            fill(shop.filler)
            until_refused(shop.predict)
            until_refused(shop.label)
            until_refused(shop.command)
            assert shop.readable()
            assert shop.server.admin("status")["journal_problem"]
            if cycle % 20 == 7:
                with pytest.raises(Unavailable):
                    Shipper(shop.state, "r0").ship_sealed()
            if cycle % 40 == 9:  # a server that is started on a full disk serves on
                counted = shop.unrecorded
                shop.server.stop()
                shop.server = shop.start()
                shop.unrecorded = 0
                assert not shop.predict() or shop.unrecorded == 0
                assert counted
            shop.filler.unlink()
            began = time.monotonic()
            assert shop.predict()
            assert shop.label()
            assert shop.command()
            if cycle % 20 == 7:
                shop.ship()
            slowest = max(slowest, time.monotonic() - began)
            assert shop.server.admin("status")["unrecorded"] == shop.unrecorded
            assert shop.server.metric("trueline_unrecorded_total") == shop.unrecorded
        shop.ship()
        kept(shop)
        assert all("make room on its disk and it goes on by itself" in sentence for sentence in shop.said), shop.said
        shop.server.stop()
        shop.store.close()
    assert slowest < RESUMES_WITHIN
    with capsys.disabled():
        print(f"\n{CYCLES[kind]} full disks ({kind}): with room again all went on within {slowest:.2f} s")  # noqa: T201


def until_refused(ask) -> None:
    for _ in range(ENOUGH):
        if not ask():
            return
    raise AssertionError("the disk is not full")


def kept(shop: Shop) -> None:
    """All that was acknowledged is there, once: in the tables, in the journal, in the database."""
    found = [record for record, _ in segments.read(shop.state.journal("r0"))]
    predictions = [one.request_id for one in found if isinstance(one, PredictionRecord)]
    labels = [one.label_id for one in found if isinstance(one, LabelRecord)]
    assert predictions == shop.predictions
    assert len(labels) == len(set(labels))
    assert set(shop.labels) <= set(labels), "of a refused batch some may be in, and count once when it is sent again"
    shipped = pl.read_delta(str(shop.state.table("labels")))["label_id"]
    assert sorted(shipped) == sorted(labels)
    rows = pl.read_delta(str(shop.state.table("predictions")))["request_id"]
    assert rows.n_unique() == len(predictions)
    assert rows.len() == len(predictions) * len(ROWS["instances"])
    with shop.store.read() as tx:
        assert [
            row.id for row in tx.execute(runs.tables.runs.select().order_by(runs.tables.runs.c.number))
        ] == shop.runs


def label(number: int) -> LabelRecord:
    return LabelRecord(f"label-{number}", f"prediction-{number}", float(number), number, number, "test", None)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 400), st.booleans()), max_size=25), st.integers(120, 900))
def test_a_journal_on_a_disk_that_takes_only_so_much_keeps_whole_what_it_said_it_has(steps, size):
    """Each step is a batch, the bytes that the disk will take, and whether the torn frame can be cut off at once."""
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as name,
        pytest.MonkeyPatch.context() as patch,
        Writer(folder := Path(name), segment_bytes=size) as writer,
    ):
        said: list[str] = []
        number = 0
        for count, room, cuttable in steps:
            batch = [label(number + one) for one in range(count)]
            number += count
            patch.setattr("trueline.journal.segments.os.write", takes(room))
            patch.setattr("trueline.journal.segments.os.ftruncate", os.ftruncate if cuttable else refuses)
            try:
                writer.append(batch)
                said += [one.label_id for one in batch]
            except NotRecorded as problem:
                said += [one.label_id for one in batch[: problem.kept]]
            patch.undo()
            assert writer.bytes_written <= sum(path.stat().st_size for path in folder.glob("*.seg"))
        writer.append([label(-1)])
        writer.seal()
        there = [record.label_id for record, _ in segments.read(folder)]
    assert sorted(set(there)) == sorted(there)
    assert [one for one in there if one in {*said, "label--1"}] == [*said, "label--1"]


WRITE = os.write


def takes(room: int):
    """`write()` on a disk with so many bytes left."""
    left = [room]

    def write(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        done = WRITE(descriptor, bytes(data[: left[0]]))
        left[0] -= done
        return done

    return write


def refuses(*_: object) -> None:
    raise OSError(5, "Input/output error")


def test_a_file_that_may_not_grow_refuses_in_a_sentence_and_goes_on_when_it_may(tmp_path):
    """What a laptop without root can do: the process's own limit, in a process of its own."""
    script = """
import resource, sys
from pathlib import Path
from trueline.errors import NotRecorded
from trueline.journal.records import LabelRecord
from trueline.journal.segments import Writer
from trueline.journal import segments

one = [LabelRecord("l", "p", 1.0, 1, 1, "test", None)]
folder = Path(sys.argv[1])
with Writer(folder) as writer:
    for cycle in range(200):
        resource.setrlimit(resource.RLIMIT_FSIZE, (writer.bytes_written + 50, resource.RLIM_INFINITY))
        refused = 0
        while not refused:
            try:
                writer.append(one)
            except NotRecorded as problem:
                assert "free some disk space" in str(problem), problem
                refused += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        writer.append(one)
    size = writer.bytes_written
assert size == sum(path.stat().st_size for path in folder.glob("*.seg"))
print(len(list(segments.read(folder))))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 200
