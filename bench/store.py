"""The control plane's database: one guarded move with its event, committed, beside the same SQL without any layers."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cpu
from figures import Figure, number, tell
from trueline.clock import SystemClock
from trueline.domain.versions import VERSIONS, VersionEvent
from trueline.store import moves, tables
from trueline.store.engine import Store, open_store

VERSION = "bench/1"
UPDATE = "UPDATE versions SET state = ? WHERE id = ? AND state = ?"
EVENT = (
    "INSERT INTO events (at, wall_at, project, kind, ref, actor, reason, detail) "
    "VALUES ('2026-01-01 00:00:00', '2026-01-01 00:00:00', 'bench', 'version.approve', ?, 'bench', 'to and fro', '{}')"
)


def measure(*, quick: bool) -> Iterator[Figure]:
    count = 50 if quick else 2_000
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        path = Path(name) / "control.db"
        store = open_store(path, SystemClock())
        _a_version(store)
        bare = sqlite3.connect(path, isolation_level=None)
        bare.execute("PRAGMA synchronous=NORMAL")
        seconds = cpu.best_in_turns({"moves": _moves(store, count), "bare": _bare(bare, count)}, rounds=3)
        bare.close()
        store.close()
    rate, limit = count / seconds["moves"], count / seconds["bare"]
    against = f"the same UPDATE and INSERT through sqlite3, {number(limit)}"
    yield Figure(None, "guarded moves with their event, each committed", rate, "moves / CPU-s", against, rate / limit)


def _a_version(store: Store) -> None:
    with store.begin() as tx:
        values = {
            "id": VERSION,
            "project": "bench",
            "number": 1,
            "run": "run-1",
            "digest": "sha256:0",
            "executor": "onnx",
            "task": "regression",
            "parity": {},
            "metrics": {},
            "summary": {},
            "trained_from": tx.now,
            "trained_to": tx.now,
            "purpose": "manual",
            "created_at": tx.now,
        }
        moves.create(tx, tables.versions, VERSIONS, values, actor="bench", reason="something to move")
        moves.move(tx, tables.versions, VERSIONS, VERSION, VersionEvent.approve, actor="bench", reason="begin")


def _moves(store: Store, count: int) -> Callable[[], None]:
    def to_and_fro() -> None:
        for event in itertools.islice(itertools.cycle((VersionEvent.reject, VersionEvent.approve)), count):
            with store.begin() as tx:
                moves.move(tx, tables.versions, VERSIONS, VERSION, event, actor="bench", reason="to and fro")

    return to_and_fro


def _bare(bare: sqlite3.Connection, count: int) -> Callable[[], None]:
    def to_and_fro() -> None:
        for new, old in itertools.islice(itertools.cycle((("rejected", "approved"), ("approved", "rejected"))), count):
            bare.execute("BEGIN IMMEDIATE")
            assert bare.execute(UPDATE, (new, VERSION, old)).rowcount == 1
            bare.execute(EVENT, (VERSION,))
            bare.execute("COMMIT")

    return to_and_fro


if __name__ == "__main__":
    tell(measure, __doc__)
