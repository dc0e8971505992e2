"""The feeder on a clock turned by hand: a tracker that is away for an hour, refuses one thing, or has two tellers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from trueline.clock import ManualClock
from trueline.control import releases, runs, status
from trueline.control.context import Context
from trueline.control.leadership import PATIENCE_SECONDS, Leadership
from trueline.domain.project import Data, Engines, Project
from trueline.domain.runs import RUNS, Purpose, RunEvent, RunState
from trueline.errors import InvalidInput, InvalidProject, NotAuthenticated, TruelineError, Unavailable
from trueline.pipelines.lane import Lane
from trueline.pipelines.tracked import GIVE_WAY, Feeder
from trueline.settings import StateFolder
from trueline.store import moves, tables
from trueline.store.engine import open_store
from trueline.tracking.memory import MemoryTracking
from trueline.tracking.recording import STORE
from trueline.tracking.store import TrackedRun, TrackedVersion
from trueline.wiring import tracking
from trueline.wiring.tracking import opener


@dataclass
class Tracker(MemoryTracking):
    """Remembers the order of what it was told, and raises what it is given for it."""

    problem: Callable[[object], TruelineError | None] = lambda _: None
    told: list[str] = field(default_factory=list)
    tries: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def _hear(self, what: str) -> None:
        self.tries += 1
        if (problem := self.problem(what)) is not None:
            raise problem
        self.told.append(what)

    def run(self, run: TrackedRun) -> None:
        self._hear(run.run_id)
        super().run(run)

    def version(self, version: TrackedVersion) -> None:
        self._hear(f"v{version.version}")
        super().version(version)

    def alias(self, model: str, alias: str, version: int | None) -> None:
        self._hear(f"{alias}={version}")
        super().alias(model, alias, version)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def context(database: Any, clock: ManualClock, tmp_path: Path) -> Iterator[Context]:
    store = open_store(database, clock)
    project = Project("p", Data("rows.csv", "y"), "model.py:fit")
    yield Context(project, tmp_path, StateFolder(tmp_path / "state").create(), store, clock, "worker")
    store.close()


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


@pytest.fixture
def feeder(context: Context, tracker: Tracker) -> Iterator[Feeder]:
    found = Feeder(context, lambda: tracker)
    yield found
    found.close()


def train(context: Context) -> int:
    """A run that ends with a version."""
    with context.store.begin() as tx:
        times: dict[str, Any] = {"window_from": tx.now, "cut_at": tx.now}
        given: dict[str, Any] = {
            "entry": "model.py:fit",
            "params": {},
            "release": True,
            "actor": "ada",
            "reason": "asked",
        }
        run = runs.start(tx, "p", purpose=Purpose.manual, **times, **given)
        states: dict[str, Any] = {"waiting": RunState.queued, "busy": RunState.running}
        lease = {"owner": "w", "lease": timedelta(minutes=1)}
        claimed = moves.claim(tx, tables.runs, RUNS, RunEvent.claim, project="p", **states, **lease)
        assert claimed is not None
        made = runs.Trained("sha256:0", "onnx", "regression", {"worst": 0.0}, {"mae": 1.0}, {})
        return runs.succeed(tx, run, claimed[1], made, actor="w").number


def point(context: Context, alias: str, version: int | None) -> None:
    with context.store.begin() as tx:
        releases._tell_tracking(tx, "p", alias, version)


def work(feeder: Feeder) -> None:
    while feeder.work_one():
        pass


def backlog(context: Context) -> status.TrackingBacklog:
    with context.store.read() as tx:
        found = status.take(tx, "p", idle=True, replaying=False, freshness=None).tracking
    assert found is not None
    return found


def test_an_hour_away_is_caught_up_in_order_and_once(
    context: Context, clock: ManualClock, tracker: Tracker, feeder: Feeder
) -> None:
    tracker.problem = lambda _: Unavailable("MLflow at http://m cannot be told anything now: refused")
    for minute in range(60):
        if minute % 10 == 0:
            number = train(context)
            point(context, "champion", number)
        for _ in range(60):
            clock.advance(timedelta(seconds=1))
            work(feeder)
    assert tracker.told == []
    assert 100 < tracker.tries < 160  # twice as long between two tries each time, up to half a minute
    assert backlog(context) == status.TrackingBacklog(18, "MLflow at http://m cannot be told anything now: refused")
    tracker.problem = lambda _: None
    clock.advance(timedelta(seconds=31))
    work(feeder)
    champions = ["champion=6"]  # what pointed elsewhere meanwhile is not said any more
    assert tracker.told == [said for n in range(1, 7) for said in (f"run-{n}", f"v{n}")] + champions
    assert tracker.aliases == {("p", "champion"): 6}
    assert backlog(context) == status.TrackingBacklog(0, None)


def test_a_clock_put_back_does_not_prolong_the_wait(
    context: Context, clock: ManualClock, tracker: Tracker, feeder: Feeder
) -> None:
    train(context)
    tracker.problem = lambda _: Unavailable("away")
    work(feeder)
    tracker.problem = lambda _: None
    clock.advance(timedelta(hours=-1))
    work(feeder)
    assert tracker.told == ["run-1", "v1"]


def test_wrong_credentials_are_said_by_the_status_and_cost_one_try_at_a_time(
    context: Context, tracker: Tracker, feeder: Feeder
) -> None:
    for _ in range(5):
        train(context)
    tracker.problem = lambda _: NotAuthenticated("MLflow at http://m does not accept these credentials (401): set them")
    work(feeder)
    assert tracker.tries == 1
    assert backlog(context).error == "MLflow at http://m does not accept these credentials (401): set them"


def test_what_is_refused_for_itself_holds_back_its_followers_for_a_while_and_nobody_else(
    context: Context, clock: ManualClock, tracker: Tracker, feeder: Feeder
) -> None:
    for _ in range(3):
        train(context)
    tracker.problem = lambda what: InvalidInput("MLflow refused (400)") if what == "v2" else None
    work(feeder)
    assert tracker.told == ["run-1", "v1", "run-2", "run-3"]
    for _ in range(GIVE_WAY):
        clock.advance(timedelta(seconds=31))
        work(feeder)
    assert tracker.told[4:] == ["v3"]
    assert backlog(context) == status.TrackingBacklog(1, "MLflow refused (400)")


def test_an_alias_that_comes_late_does_not_undo_a_newer_one(
    context: Context, clock: ManualClock, tracker: Tracker, feeder: Feeder
) -> None:
    train(context)
    train(context)
    point(context, "champion", 1)
    point(context, "challenger", 2)
    point(context, "champion", 2)
    tracker.problem = lambda what: InvalidInput("no") if what == "champion=1" else None
    work(feeder)
    tracker.problem = lambda _: None
    clock.advance(timedelta(minutes=1))
    work(feeder)
    assert tracker.aliases == {("p", "champion"): 2, ("p", "challenger"): 2}
    assert "champion=1" not in tracker.told


def test_one_of_two_workers_tells_and_the_other_takes_over_when_it_is_silent(
    context: Context, tracker: Tracker
) -> None:
    seconds = [0.0]

    def teller(name: str) -> Feeder:
        turn = Leadership(context.store, "p", role="tracking", me=name, monotonic=lambda: seconds[0])
        return Feeder(context, lambda: tracker, turn=turn)

    first, second = teller("elsewhere:1:1"), teller("elsewhere:2:2")
    train(context)
    assert first.work_one()
    assert not second.work_one()
    first._closing.set()  # it is dead: it beats no more
    seconds[0] += PATIENCE_SECONDS / 2
    assert not second.work_one()
    seconds[0] += PATIENCE_SECONDS
    assert second.work_one()
    assert tracker.told == ["run-1", "v1"]
    second.close()
    first.close()


def test_what_was_told_while_the_turn_changed_hands_is_not_told_again(context: Context, tracker: Tracker) -> None:
    first = Feeder(context, lambda: tracker)

    class Turn(Leadership):
        """Is taken when the one before has just told everything, and let go."""

        def hold(self) -> bool:
            work(first)
            first.close()
            return super().hold()

    second = Feeder(context, lambda: tracker, turn=Turn(context.store, "p", role="tracking", me="elsewhere:2:2"))
    train(context)
    assert not second.work_one()
    assert tracker.told == ["run-1", "v1"]
    second.close()


def test_a_tracker_that_does_not_answer_holds_up_nobody(context: Context, tracker: Tracker) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        asked.set()
        assert answer.wait(30)

    tracker.problem = hang
    feeder = Feeder(context, lambda: tracker)
    lane = Lane("tracking", feeder.work_one, poll=0.01)
    lane.start()
    train(context)
    lane.nudge()
    assert asked.wait(10)
    assert train(context) == 2  # while it hangs
    assert not lane.stop(0.01)
    answer.set()
    assert lane.stop(10)
    feeder.close()
    assert tracker.told == ["run-1"]


def test_each_target_has_names_of_its_own(context: Context, tracker: Tracker) -> None:
    staging = replace(context, project=replace(context.project, target="staging"))
    feeder = Feeder(staging, lambda: tracker)
    train(context)
    work(feeder)
    feeder.close()
    assert list(tracker.versions) == [("p-staging", 1)]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("mlflow.acme:5000", r"tracking is mlflow\.acme:5000, which names no MLflow: write a server's https://…"),
        ("ftp://ada:secret@mlflow", r"tracking is ftp://ada:\*\*\*@mlflow, which names no MLflow"),
        (
            "env:NO_SUCH_TRACKER",
            "tracking is env:NO_SUCH_TRACKER, but the environment variable NO_SUCH_TRACKER is not set",
        ),
    ],
)
def test_an_address_that_names_no_mlflow_is_refused_at_the_start(context: Context, address: str, sentence: str) -> None:
    project = replace(context.project, engines=Engines(tracking=address))
    with pytest.raises(InvalidProject, match=sentence):
        opener(replace(context, project=project))


def test_runs_of_one_database_are_told_under_one_name_of_it(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(STORE, "of before")
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr(tracking, "MlflowTracking", lambda *all_of_it: given.append(all_of_it))
    for address in ("http://mlflow.acme", None):
        project = replace(context.project, engines=Engines(tracking=address))
        opener(replace(context, project=project))()
    (server, _, first), (own, _, second) = given
    assert (server, own) == ("http://mlflow.acme", tmp_path / "state" / "mlflow.db")
    assert first == second
    assert os.environ[STORE] == f"sqlite:///{tmp_path}/state/mlflow.db"
