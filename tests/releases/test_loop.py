"""The releases controller on real rows and a real journal: the default strategy, round by round."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trueline.clock import ManualClock
from trueline.control import endpoints, incidents, releases, runs
from trueline.control.context import Context
from trueline.domain.incidents import IncidentKind
from trueline.domain.project import Data, Project
from trueline.domain.releases import Release, ReleaseState
from trueline.domain.runs import RUNS, Purpose, RunEvent, RunState
from trueline.domain.versions import VERSIONS, VersionEvent
from trueline.errors import Conflict
from trueline.journal.records import PredictionRecord
from trueline.journal.segments import Writer
from trueline.releases import loop
from trueline.settings import StateFolder
from trueline.store import moves, rows, tables
from trueline.store.engine import open_store

MINUTE = timedelta(minutes=1)


@pytest.fixture
def context(tmp_path, database):
    folder = StateFolder(tmp_path / "state").create()
    clock = ManualClock(datetime(2026, 1, 5, tzinfo=UTC))
    store = open_store(database, clock)
    project = Project("p", Data("x.csv", "y"), "model.py:fit")
    yield Context(project, Path(tmp_path), folder, store, clock)
    store.close()


def approved(context):
    """A version whose gate has passed."""
    with context.store.begin() as tx:
        run = runs.start(
            tx,
            "p",
            purpose=Purpose.manual,
            entry="model.py:fit",
            params={},
            window_from=tx.now,
            cut_at=tx.now,
            release=True,
            actor="ada",
            reason="asked",
        )
        words = {"waiting": RunState.queued, "busy": RunState.running}
        _, fence = moves.claim(
            tx, tables.runs, RUNS, RunEvent.claim, project="p", owner="w", lease=timedelta(minutes=1), **words
        )
        made = runs.Trained("sha256:0", "onnx", "regression", {}, {}, {})
        number = runs.succeed(tx, run, fence, made, actor="w").number
        version = runs.version_id("p", number)
        moves.move(tx, tables.versions, VERSIONS, version, VersionEvent.approve, actor="w", reason="passed")
        return number


def request(context, version):
    with context.store.begin() as tx:
        return releases.request(tx, "p", version, vouched=True, actor="ada", reason="asked").id


def rounds(context, count=10):
    for _ in range(count):
        if not loop.step(context).busy:
            return


def state(context, release_id):
    with context.store.read() as tx:
        return rows.get(tx, Release, release_id)


def ask(context, journal, release, count, *, bad=0, every=None):
    """Requests split as a server would split them, the first `bad` of the canary's going wrong."""
    weight = float(release.evidence["weight"])
    every = every or round(1 / weight)
    records, went_wrong = [], 0
    for number in range(count):
        canary = number % every == 0
        wrong = canary and went_wrong < bad
        went_wrong += wrong
        records.append(
            PredictionRecord(
                request_id=f"r{release.step}-{number}",
                event_us=number,
                received_us=number,
                model="p",
                epoch=2,
                release=release.id,
                version=release.version if canary else release.previous,
                arm="canary" if canary else "champion",
                weight=weight if canary else 1 - weight,
                unit=str(number),
                outcome="failed" if wrong else "answered",
                answered_by=1,
                queue_us=1,
                exec_us=1,
                rows=1,
                features={},
                outputs=[1.0],
                error=None,
            )
        )
    journal.append(records)
    context.clock.advance(MINUTE)
    rounds(context)


@pytest.fixture
def journal(context):
    with Writer(context.folder.journal("r0"), segment_bytes=1 << 22) as writer:
        yield writer


@pytest.fixture
def canary(context):
    """The default strategy's first step, 10 % of requests, over a champion."""
    first = request(context, approved(context))
    rounds(context)
    assert state(context, first).state is ReleaseState.promoted
    second = request(context, approved(context))
    rounds(context)
    found = state(context, second)
    assert (found.state, found.step, found.evidence["weight"]) == (ReleaseState.canary, 0, 0.1)
    return second


def test_a_healthy_canary_goes_through_every_step_to_all_the_traffic(context, journal, canary):
    ask(context, journal, state(context, canary), 3000)
    assert (state(context, canary).step, state(context, canary).state) == (1, ReleaseState.canary)
    ask(context, journal, state(context, canary), 1000)
    assert state(context, canary).state is ReleaseState.promoted
    with context.store.read() as tx:
        assert endpoints.get(tx, "p").champion == state(context, canary).version


def test_a_failing_canary_is_sent_back_after_a_few_requests(context, journal, canary):
    ask(context, journal, state(context, canary), 400, bad=40)
    found = state(context, canary)
    assert found.state is ReleaseState.rolled_back
    assert found.requests_answered == 40
    with context.store.read() as tx:
        assert endpoints.get(tx, "p").champion == found.previous


def test_too_few_requests_decide_nothing(context, journal, canary):
    ask(context, journal, state(context, canary), 200)
    assert (state(context, canary).state, state(context, canary).step) == (ReleaseState.canary, 0)


def test_a_split_that_chance_cannot_explain_is_held_and_said_once(context, journal, canary):
    ask(context, journal, state(context, canary), 600, every=2)
    ask(context, journal, state(context, canary), 600, every=2)
    found = state(context, canary)
    assert (found.state, found.step) == (ReleaseState.canary, 0)
    assert journal_of(context, found) == ["release.create", "release.start_canary", "release.hold"]


def journal_of(context, release):
    with context.store.read() as tx:
        box = tables.events
        return [row.kind for row in tx.execute(box.select().where(box.c.ref == release.id).order_by(box.c.id))]


def test_the_same_version_is_not_released_twice_at_once(context, canary):
    version = state(context, canary).version
    with pytest.raises(Conflict, match="is under way already"):
        request(context, version)


def test_a_waiting_release_of_what_became_the_champion_is_given_up(context, canary):
    """A person's hold on the server can crown the very version that waits."""
    third = approved(context)
    waiting = request(context, third)
    with context.store.begin() as tx:
        live = rows.get(tx, Release, canary)
        releases.roll_back(tx, context.scene, live, actor="ada", reason="no")
        endpoints.crown(tx, "p", third)
    rounds(context)
    assert state(context, waiting).state is ReleaseState.aborted


def test_a_waiting_release_that_is_given_up_ends_nobodys_watch(context, journal, canary):
    """Its rows turn out to be those of a fault while the release before it is still being watched."""
    ask(context, journal, state(context, canary), 3000)
    ask(context, journal, state(context, canary), 1000)
    waiting = request(context, approved(context))
    context.clock.advance(MINUTE)
    cause = {"feature": "x", "slice": "all", "since": "2026-01-01", "until": "2026-01-09"}
    told = {"reason": "x is broken", "advice": "upstream_fault", "kind": IncidentKind.upstream}
    with context.store.begin() as tx:
        fault = incidents.raise_one(tx, "p", version=2, detail={}, cause=cause, **told)
        incidents.close(tx, fault, reason="x is what it was")
    rounds(context)
    assert state(context, waiting).state is ReleaseState.aborted
    assert state(context, canary).state is ReleaseState.promoted


def test_a_promoted_release_is_finished_when_its_watch_is_over(context, journal, canary):
    ask(context, journal, state(context, canary), 3000)
    ask(context, journal, state(context, canary), 1000)
    context.clock.advance(timedelta(days=9))
    rounds(context)
    assert state(context, canary).state is ReleaseState.done
