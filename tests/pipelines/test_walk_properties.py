"""Whatever the graph and whenever the worker dies: each step's effect is committed once, after what it takes from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

from walk_world import InstantProcesses, World

from trueline.errors import Conflict
from trueline.pipelines.graph import INPUT, Call, Graph
from trueline.pipelines.spec import StepSpec


class Crash(BaseException):
    """The worker dies here."""


@st.composite
def graphs(draw: Any) -> Graph:
    """Up to seven steps, each taking from some before it, or from the frame."""
    calls: list[Call] = []
    for place in range(draw(st.integers(1, 7))):
        taken = draw(st.lists(st.sampled_from([one.name for one in calls]), unique=True, max_size=3)) if calls else []
        parts = [{"step": name, "path": []} for name in taken] or [{"step": INPUT, "path": []}]
        arguments = {"parts": {"list": parts}, "salt": {"value": draw(st.integers(0, 3))}}
        name = f"step_{place}"
        calls.append(Call(name, "m", name, None, arguments, 0, None, draw(st.booleans())))
    return Graph(tuple(calls), {"step": calls[-1].name, "path": []})


def expected(graph: Graph, rows: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for call in graph.calls:
        parts = [made.get(one["step"], rows) for one in call.arguments["parts"]["list"]]
        made[call.name] = [call.name, call.arguments["salt"]["value"], *parts]
    return made


class Dying(InstantProcesses):
    """Counts what is computed; at chosen moments the worker dies, before or after the work or the commit.

    What is computed holds the rows' digest, so that no example finds in the cache what an earlier one has made.
    """

    def __init__(self, rows: str, moments: set[int]) -> None:
        super().__init__(self._make)
        self.rows = rows
        self.moments, self.moment = moments, 0
        self.computed: list[str] = []

    def _make(self, spec: StepSpec, given: dict[str, Any]) -> Any:
        self.computed.append(spec.name)
        return [spec.name, given["salt"], *(self.rows if part == "rows" else part for part in given["parts"])]

    def die(self) -> None:
        self.moment += 1
        if self.moment in self.moments:
            raise Crash

    def start(self, module: str, path: Path) -> int:
        self.die()
        job = super().start(module, path)
        self.die()
        return job

    def wait(self, seconds: float) -> dict[int, int]:
        self.die()
        found = super().wait(seconds)
        self.die()
        return found

    def kill(self, job: int) -> None:
        """A dead worker's nursery kills nothing here: what it started may still write its result."""


class DyingStore:
    """A database whose user may die before or after each commit."""

    def __init__(self, store: Any, die: Any) -> None:
        self._store, self._die, self.clock = store, die, store.clock

    @contextmanager
    def begin(self) -> Iterator[Any]:
        self._die()
        with self._store.begin() as tx:
            yield tx
        self._die()

    def read(self) -> Any:
        return self._store.read()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.store.close()


counter = iter(range(1_000_000))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graphs(), st.sets(st.integers(1, 60), max_size=6), st.integers(1, 3), st.data())
def test_each_step_is_committed_once_whenever_the_worker_dies(
    world: World, graph: Graph, moments: set[int], at_once: int, data: st.DataObject
) -> None:
    rows_digest = f"rows-{next(counter)}"
    run = world.start()
    processes = Dying(rows_digest, moments)
    context = world.context
    object.__setattr__(world, "context", _with_store(context, DyingStore(world.store, processes.die)))
    abandoned = []
    try:
        while True:
            run, fence = world.claim(run)
            walk = world.walk(run, fence, graph, processes, at_once=at_once, rows_digest=rows_digest)
            try:
                tree = walk.to_end()
            except Crash:
                abandoned.append(walk)
                if data.draw(st.booleans()):
                    processes.started.clear()  # its processes died with it
                continue
            break
        processes.moments.clear()
        for late in abandoned:  # a worker that was only slow wakes up: nothing it does counts any more
            with pytest.raises(Conflict):
                late.to_end()
    finally:
        object.__setattr__(world, "context", context)
    wanted = expected(graph, rows_digest)
    assert world.value(tree) == wanted[graph.calls[-1].name]
    committed = [name for _, name, _ in world.events(run, "step.succeed", "step.reuse")]
    assert sorted(committed) == sorted(wanted), "each once"
    for call in graph.calls:
        assert all(committed.index(name) < committed.index(call.name) for name in call.needs), "in the edges' order"
    assert {name: world.value(step.output) for name, step in world.steps(run).items()} == wanted
    world.end(run, fence)
    _again_everything_cached_is_reused(world, graph, rows_digest)


def _again_everything_cached_is_reused(world: World, graph: Graph, rows_digest: str) -> None:
    run, fence = world.claim(world.start())
    processes = Dying(rows_digest, set())
    world.walk(run, fence, graph, processes, rows_digest=rows_digest).to_end()
    assert sorted(processes.computed) == [call.name for call in graph.calls if not call.cache]
    world.end(run, fence)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graphs(), st.integers(1, 60))
def test_what_an_attempt_had_finished_is_not_computed_again(world: World, graph: Graph, moment: int) -> None:
    graph = replace(graph, calls=tuple(replace(call, cache=False) for call in graph.calls))
    rows_digest = f"rows-{next(counter)}"
    run, fence = world.claim(world.start())
    processes = Dying(rows_digest, {moment})
    try:
        world.walk(run, fence, graph, processes, rows_digest=rows_digest).to_end()
    except Crash:
        processes.started.clear()
        run, fence = world.claim(run)
        world.walk(run, fence, graph, processes, rows_digest=rows_digest).to_end()
    assert sorted(processes.computed) == sorted(call.name for call in graph.calls)
    world.end(run, fence)


def _with_store(context: Any, store: Any) -> Any:
    return replace(context, store=store)
