"""A project with a past, written as the loop would have written it: days, a champion, gates, releases, an incident."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert, update

from trueline.control import clocks, endpoints, gates, incidents, releases, runs
from trueline.domain.blocks import BlockState
from trueline.domain.gates import GATES, GateEvent, GateState
from trueline.domain.releases import Release
from trueline.domain.runs import RUNS, Purpose, RunEvent, RunState
from trueline.domain.verdicts import Verdict
from trueline.pipelines.spec import LOG
from trueline.store import moves, rows, tables
from trueline.wiring import open_context
from trueline.wiring.controllers import Controllers
from trueline.wiring.services import LocalServices

DAY = timedelta(days=1)
BEGIN = datetime(2023, 1, 1, tzinfo=UTC)
LEASE = timedelta(minutes=1)
PROJECT = """\
version: 1
project: {name}
data: {{source: rows.csv, target: price, time: at}}
train: model.py:fit
retrain: {{rehearse: off}}
{more}
"""


class Past:
    """What is asked of it is done at the time it stands at; `days` pass at once."""

    def __init__(self, folder: Path, *, name: str = "houses", more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "trueline.yaml"
        self.file.write_text(PROJECT.format(name=name, more=more))
        self.name = name
        self.now = BEGIN
        self._chance = random.Random(7)
        self._opened: list[LocalServices] = []
        self.reach(BEGIN)

    @property
    def state(self) -> Path:
        return self.file.parent / ".trueline"

    def open(self):
        return open_context(self.file, self.state, replay=True, actor="ada")

    def reach(self, now: datetime) -> None:
        self.now = now
        context = self.open()
        with context.store.begin() as tx:
            clocks.set_replayed(tx, now)
        context.store.close()

    def champion(self, reason: str = "the first of all") -> int:
        """Train a version, let its gate pass, give it all traffic: at once, for controllers may be at work."""
        context = self.open()
        with context.store.begin() as tx:
            run = runs.start(
                tx,
                self.name,
                purpose=Purpose.manual,
                entry="model.py:fit",
                params={"depth": 3},
                window_from=tx.now - 28 * DAY,
                cut_at=tx.now,
                release=True,
                actor="ada",
                reason=reason,
            )
            fence = self._claimed(tx, tables.runs, RUNS, RunEvent.claim, RunState.queued, RunState.running)
            made = runs.Trained("sha256:0", "onnx", "regression", {"worst": 0.0}, {"mae": 1.0}, {})
            version = runs.succeed(tx, run, fence, made, actor="w").number
            gate = gates.request(tx, self.name, version, vouched_by=None, actor="ada", reason="trained")
            fence = self._claimed(tx, tables.gates, GATES, GateEvent.claim, GateState.pending, GateState.evaluating)
            checks = [{"name": "sanity", "verdict": "pass", "reason": "it is finite everywhere"}]
            pairs = [{"block": "2022-12-31", "rows": 40, "loss": 1.5, "other": 2.5}]
            evidence = {"checks": checks, "baseline": pairs}
            gates.decide(tx, gate, fence, verdict=Verdict.passed, reason="pass: better", evidence=evidence, actor="w")
            live = endpoints.live_release(tx, self.name)
            if live is not None:
                releases.finish(tx, context.scene, live, actor="control", reason="the next one is here")
            release = rows.first(tx, Release, newest=True)
            releases.promote(tx, context.scene, release, actor="control", reason=f"version {version} is better")
        context.store.close()
        return version

    def waiting(self, reason: str) -> str:
        """A run that is still to end."""
        context = self.open()
        with context.store.begin() as tx:
            run = runs.start(
                tx,
                self.name,
                purpose=Purpose.manual,
                entry="model.py:fit",
                params={},
                window_from=BEGIN,
                cut_at=tx.now,
                release=False,
                actor="ada",
                reason=reason,
            )
        context.store.close()
        return run.id

    def prints(self, run: str, text: str) -> None:
        """What that run's process would have printed."""
        folder = self.state / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("a") as file:
            file.write(text)

    def _claimed(self, tx, table, machine, event, waiting, busy):
        found = moves.claim(
            tx, table, machine, event, project=self.name, waiting=waiting, busy=busy, owner="w", lease=LEASE
        )
        return found[1]

    def days(self, count: int, *, loss: float = 5.0) -> None:
        """So many judged days, from where it stands."""
        first = self.now.date()
        context = self.open()
        blocks = [self._block(first + place * DAY, loss) for place in range(count)]
        with context.store.begin() as tx:
            tx.execute(insert(tables.blocks), blocks)
        context.store.close()
        self.reach(self.now + count * DAY)

    def _block(self, day: date, loss: float):
        due = datetime(day.year, day.month, day.day, tzinfo=UTC) + 2 * DAY
        seen = round(loss * self._chance.uniform(0.8, 1.2), 4)
        evidence = {
            "served": {"n": 60, "loss": seen},
            "versions": {"1": {"n": 60, "loss": seen}, "2": {"n": 0, "loss": None}},
            "pairs": [],
            "coverage": {"predictions": 70, "labelled": 60},
            "drift": {f"feature_{number}": {"psi": 0.01, "noise": 0.02} for number in range(12)},
        }
        row = {"id": f"{self.name}/{day}", "project": self.name, "day": day.isoformat(), "due_at": due}
        return {**row, "state": BlockState.judged, "evidence": evidence}

    def promise(self, mean: float) -> None:
        context = self.open()
        promised = {"mean": mean, "upper": mean * 1.1, "blocks": 8}
        with context.store.begin() as tx:
            state = {"state": {"promised": promised, "totals": {"predictions": 700, "labels": 600}}}
            row = {"project": self.name, "updated_at": tx.now, **state}
            if not tx.execute(
                update(tables.monitors).where(tables.monitors.c.project == self.name).values(**state)
            ).rowcount:
                tx.execute(insert(tables.monitors), row)
        context.store.close()

    def incident(self, reason: str) -> str:
        context = self.open()
        with context.store.begin() as tx:
            detail = {"version": 1, "loss": 9.0}
            suspect = {"kind": "input", "name": "rooms in city=A", "share": 0.8, "sentence": "rooms in city=A doubled"}
            found = incidents.raise_one(
                tx,
                self.name,
                version=1,
                reason=reason,
                advice="wait",
                detail=detail,
                cause={"suspects": [suspect], "feature": "rooms"},
            )
        context.store.close()
        return found.id

    def events(self, count: int, *, kind: str = "run.create", reason: str = "every 7 days") -> list[int]:
        """Events by themselves, one after the other in time up to now; their ids."""
        context = self.open()
        step = (self.now - BEGIN) / (count + 1)
        made = [
            {
                "at": BEGIN + place * step if count > 1 else self.now,
                "wall_at": BEGIN,
                "project": self.name,
                "kind": kind,
                "ref": "run-1",
                "actor": "schedule",
                "reason": reason,
                "detail": {},
            }
            for place in range(1, count + 1)
        ]
        with context.store.begin() as tx:
            tx.execute(insert(tables.events), made)
        with context.store.read() as tx:
            found = tx.execute(tables.events.select().order_by(tables.events.c.id.desc()).limit(count))
            ids = [row.id for row in found][::-1]
        context.store.close()
        return ids

    def services(self) -> LocalServices:
        context = self.open()
        self._opened.append(LocalServices(context, Controllers(context), replaying=True))
        return self._opened[-1]

    def close(self) -> None:
        for services in self._opened:
            services.close()
