"""The whole loop in one process: controllers, worker and shipper are real, HTTP and processes are left out.

Requests are answered as a model server would: the route table in force picks an arm by hash, the packaged models
predict, and journal records are written. Time is the replayed one.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trueline.clock import to_us
from trueline.control import blocks, clocks, endpoints
from trueline.domain.blocks import Block
from trueline.domain.events import Event
from trueline.domain.incidents import Incident
from trueline.domain.routes import RouteTable
from trueline.journal.records import LabelRecord, PredictionRecord, Record, ShadowRecord
from trueline.journal.segments import Writer
from trueline.packaging.executors import Executor, load
from trueline.serving.routing import Split
from trueline.shipping import service
from trueline.wiring import open_context
from trueline.wiring.controllers import Controllers
from trueline.wiring.services import LocalServices
from trueline.wiring.working import Worker

START = datetime(2026, 1, 29, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(hours=8)
A_TICK = 80
"""Requests in a tick."""
REPLICA = "r0"

PROJECT = """\
version: 1
project: world
data: {{source: rows.csv, target: y, time: at}}
train: model.py:fit
release: {{strategy: [canary: [50%], full], guards: {{floor: 5%}}}}
{policy}
"""

MODEL = """\
from sklearn.linear_model import LinearRegression

def fit(frame, *, turned=False):
    return LinearRegression().fit(frame.select("x", "z"), -frame["y"] if turned else frame["y"])
"""


@dataclass
class Nature:
    """What the world is like at a moment: `y = 10 + level + 3x - z + noise`, and `x` around `x_mean`."""

    level: Callable[[float], float] = lambda day: 0.0  # noqa: ARG005
    x_mean: Callable[[float], float] = lambda day: 0.0  # noqa: ARG005

    def draw(self, at: datetime, rows: int, salt: int = 0) -> dict[str, np.ndarray]:
        day = (at - START) / DAY
        rng = np.random.default_rng([int((at - datetime(2020, 1, 1, tzinfo=UTC)).total_seconds()), salt])
        x, z, noise = rng.normal(size=(3, rows))
        x = (x + self.x_mean(day)).astype(np.float32)
        return {"x": x, "z": z.astype(np.float32), "y": 10 + self.level(day) + 3 * x - z + 0.5 * noise}


class World:
    """A project, thirty-five days of history, and everything that works on it."""

    def __init__(self, folder: Path, policy: str, worker_state: Path | None = None) -> None:
        self.nature = Nature()
        self.failing: set[int] = set()  # versions whose requests fail
        (folder / "trueline.yaml").write_text(PROJECT.format(policy=policy))
        (folder / "model.py").write_text(MODEL)
        history(self.nature).write_csv(folder / "rows.csv")
        self._context = open_context(folder / "trueline.yaml", replay=True)
        working = open_context(folder / "trueline.yaml", worker_state, replay=True, actor="worker")
        self._controllers = Controllers(self._context)
        self.worker_folder = working.folder
        self._worker = Worker(working)
        self.services = LocalServices(self._context, self._controllers, replaying=True)
        self._shipper = Shipping(self._context.folder, self._context.storage)
        self._executors: dict[str, Executor] = {}
        self._requests = 0
        self.now = START
        self.reach(START)

    def close(self) -> None:
        self._shipper.stop()
        self._worker.close()
        self.services.close()
        shutil.rmtree(self._context.folder.socket("any").parent, ignore_errors=True)

    def live(self, days: float) -> None:
        """Requests come in, their labels twelve hours later, control works on both, until so many days have passed."""
        for _ in range(round(days * DAY / TICK)):
            self._serve()
            self.reach(self.now + TICK)
        assert self.services.status().idle

    def run(self, **params: Any) -> int:
        """Train as a person asks for it; the version."""
        run = self.services.start_run(
            fit=None, params=params, source=None, release=True, reason="asked for", actor="ada"
        )
        self.reach(self.now)
        version = self.services.run(run.id).version
        assert version is not None, self.services.run(run.id).error
        return version

    def reach(self, now: datetime) -> None:
        """Post the time, and work until nothing is left to do at it."""
        self.now = now
        with self._context.store.begin() as tx:
            clocks.set_replayed(tx, now)
        while self._controllers.step() or self._worker.step():
            pass

    def events(self, *kinds: str) -> list[Event]:
        found = self.services.events(after=0, limit=100_000, kind=None)
        return [event for event in found if not kinds or event.kind in kinds]

    def incidents(self) -> list[Incident]:
        return list(self.services.incidents(limit=100, after=None))

    def blocks(self) -> list[Block]:
        with self._context.store.read() as tx:
            return blocks.since(tx, self._context.project.name, "")

    def story(self) -> list[tuple[str, ...]]:
        """Everything that happened, with what is not the world's own (seconds, ids of contents) left out."""
        return [
            (event.at.isoformat(), event.kind, event.ref, event.actor, re.sub(r"\d+ ms", "some ms", event.reason))
            for event in self.events()
        ]

    def _serve(self) -> None:
        with self._context.store.read() as tx:
            table = endpoints.get(tx, self._context.project.name).table
        records: list[Record] = []
        if table.routes:
            truth = self.nature.draw(self.now, A_TICK, salt=1)
            records = self._answer(table, truth)
        with Writer(self._context.folder.journal(REPLICA), wait=10) as writer:
            writer.append(records)

    def _answer(self, table: RouteTable, truth: dict[str, np.ndarray]) -> list[Record]:
        outputs = {route.version: self._executor(route).predict(truth) for route in table.routes}
        split, champion, records = Split(table), table.champion, []
        assert champion is not None
        for row in range(A_TICK):
            self._requests += 1
            request, at = f"{REPLICA}-1-{self._requests:x}", to_us(self.now + row * TICK / A_TICK)
            choice = split.choose(request)
            assert choice is not None
            failed = choice.version in self.failing
            by = champion.version if failed else choice.version
            features = {name: [float(truth[name][row])] for name in ("x", "z")}
            records.append(
                PredictionRecord(
                    request_id=request,
                    event_us=at,
                    received_us=at,
                    model=table.model,
                    epoch=table.epoch,
                    release=table.release,
                    version=choice.version,
                    arm=choice.arm,
                    weight=choice.weight,
                    unit=request,
                    outcome="fell_back" if failed else "answered",
                    answered_by=by,
                    queue_us=1,
                    exec_us=1,
                    rows=1,
                    features=features,
                    outputs=[float(outputs[by][row])],
                    error="it will not" if failed else None,
                )
            )
            records += [
                ShadowRecord(request, at, at, version, table.release, "answered", 1, 1, [float(said[row])], None)
                for version, said in outputs.items()
                if version not in {by, choice.version}
            ]
            late = at + to_us(datetime(1970, 1, 1, 12, tzinfo=UTC))
            records.append(LabelRecord(f"l{request}", f"{request}-0", float(truth["y"][row]), late, late, "api", None))
        return records

    def _executor(self, route: Any) -> Executor:
        if route.digest not in self._executors:
            self._executors[route.digest] = load(self._context.folder.root / route.path, route.digest)
        return self._executors[route.digest]


class Shipping:
    """The shipper's own service, in a thread."""

    def __init__(self, folder: Any, storage: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, args=(folder, storage), daemon=True)
        self._thread.start()
        path, waiting = folder.socket(f"shipper-{REPLICA}"), threading.Event()
        for _ in range(500):
            if path.exists():
                return
            waiting.wait(0.02)
        raise AssertionError("the shipper did not start")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()

    def _serve(self, folder: Any, storage: Any) -> None:
        try:
            self._loop.run_until_complete(service.serve(folder, REPLICA, self._stop, storage))
        finally:
            self._loop.close()


def history(nature: Nature, days: int = 35, a_day: int = 24) -> pl.DataFrame:
    """The rows before the first day."""
    frames = []
    for day in range(-days, 0):
        at = START + day * DAY
        times = [(at + hour * DAY / a_day).replace(tzinfo=None) for hour in range(a_day)]
        frames.append(pl.DataFrame({"at": times, **nature.draw(at, a_day)}))
    return pl.concat(frames)
