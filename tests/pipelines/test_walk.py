"""Steps in their own processes: branches at once, retries, time-outs, mended code, damage; and what they print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

from walk_world import World

from trueline.domain.steps import StepState
from trueline.errors import TrainingFailed
from trueline.pipelines import logs, piped, values
from trueline.pipelines.execute import Trainer

HEAD = "import os, pathlib, subprocess, sys, time\nfrom trueline import pipeline, step\nHERE = pathlib.Path(__file__).parent\n"
COUNT = "def count(name):\n    with open(HERE / 'count', 'a') as file:\n        file.write(name + ' ')\n"
TWO = """
@step
def prepare(frame):
    count("prepare")
    return [1, 2], {"scale": 3}

@step
def fit_a(numbers):
    count("fit_a")
    return sum(numbers)

@step
def fit_b(more):
    count("fit_b")
    return more["scale"]

@step
def choose(models):
    count("choose")
    return max(models)

@pipeline
def training(frame):
    prepared = prepare(frame)
    return choose([fit_a(prepared[0]), fit_b(prepared[1])])
"""


class Bench:
    """A world, and real processes."""

    def __init__(self, world: World, trainer: Trainer) -> None:
        self.world, self.processes = world, trainer.processes
        self.run: Any = None

    def write(self, code: str) -> None:
        self.world.write(HEAD + COUNT + code)

    def go(self, run: Any = None, rows: str = "rows-1", **more: Any) -> Any:
        """The value of a whole run, new or going on."""
        run, fence = self.world.claim(run or self.world.start())
        self.run, well = run, False
        prepared = self.world.prepared(run, rows)
        prepared.key_parts["code"]["pipeline.py"] = (self.world.root / "pipeline.py").read_text()
        try:
            graph = piped._graph(self.processes, prepared, self.world.outputs)
            tree = self.world.walk(run, fence, graph, self.processes, rows_digest=rows, **more).to_end()
            well = True
        finally:
            self.world.end(run, fence, well=well)
        return self.world.value(tree)

    def again(self) -> Any:
        """The failed run goes on."""
        from trueline.control import runs

        with self.world.store.begin() as tx:
            run = runs.resume(tx, self.run, actor="ada", reason="mended")
        return self.go(run)

    def counted(self) -> list[str]:
        path = self.world.root / "count"
        found = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return sorted(found)

    def states(self) -> dict[str, str]:
        return {name: str(step.state) for name, step in self.world.steps(self.run).items()}

    def printed(self, **asked: Any) -> str:
        names = list(self.world.steps(self.run))
        asked = {"step": None, "after": None, "ended": True} | asked
        found = logs.read(self.world.state.run(self.run.id), names, **asked)
        return "".join(chunk.text for chunk in found.items)


@pytest.fixture
def bench(tmp_path: Path, trainer: Trainer) -> Iterator[Bench]:
    world = World(tmp_path)
    yield Bench(world, trainer)
    world.store.close()


def test_equal_steps_are_not_run_again_and_a_changed_one_takes_only_its_followers_along(bench: Bench) -> None:
    bench.write(TWO)
    assert bench.go() == 3
    assert bench.counted() == ["choose", "fit_a", "fit_b", "prepare"]
    assert bench.go() == 3
    assert bench.counted() == []
    assert {step.cached_from for step in bench.world.steps(bench.run).values()} == {
        f"run-1:{name}" for name in ("prepare", "fit_a", "fit_b", "choose")
    }
    bench.write(TWO.replace('{"scale": 3}', '{"scale": 9}'))
    assert bench.go() == 9
    assert bench.counted() == ["choose", "fit_b", "prepare"], "the part that fit_a takes is what it was"
    begun = {name: reason for _, name, reason in bench.world.events(bench.run, "step.claim")}
    assert begun["prepare"] == "attempt 1 of 1: since run-2 code of pipeline.py:prepare changed"
    assert begun["fit_b"].startswith("attempt 1 of 1: since run-2 more changed (")
    assert bench.go(rows="rows-2") == 9
    assert bench.counted() == ["prepare"], "it gives what it gave before"


def test_how_a_step_runs_and_what_is_around_it_is_not_in_its_key(bench: Bench) -> None:
    bench.write(TWO)
    bench.go()
    bench.counted()
    bench.write(TWO.replace("@step\ndef fit_a", "@step(retries=2, timeout='1h')\ndef fit_a") + "\nUNUSED = 1\n")
    bench.go()
    assert bench.counted() == []


def test_a_mended_step_goes_on_without_repeating_what_is_finished(bench: Bench) -> None:
    bench.write(TWO.replace("return sum(numbers)", "return sum(numbers).nothing"))
    with pytest.raises(TrainingFailed) as told:
        bench.go()
    assert str(told.value) == (
        "step fit_a, attempt 1 of 1: pipeline.py:16 raised AttributeError: 'int' object has no attribute 'nothing'; "
        "mend it and go on with: trueline resume run-1"
    )
    assert bench.states() == {"prepare": "succeeded", "fit_a": "failed", "fit_b": "succeeded", "choose": "waiting"}
    assert bench.counted() == ["fit_a", "fit_b", "prepare"], "the other branch was finished"
    log = bench.printed(step="fit_a")
    assert log.startswith('Traceback (most recent call last):\n  File "')
    assert "trueline/" not in log, "the frames are the user's"
    bench.write(TWO)
    assert bench.again() == 3
    assert bench.counted() == ["choose", "fit_a"]


def test_a_flaky_step_is_tried_again_after_a_pause_that_grows(bench: Bench) -> None:
    bench.write("""
@step(retries=2)
def flaky(frame):
    count("flaky")
    tried = len((HERE / "count").read_text().split())
    if tried < 3:
        raise OSError(f"not now, {tried}")
    return tried

@pipeline
def training(frame):
    return flaky(frame)
""")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        bench.world.clock.advance(timedelta(seconds=seconds))

    assert bench.go(pause=pause) == 3
    assert pauses == [1.0, 2.0]
    told = [reason for _, _, reason in bench.world.events(bench.run, "step.retry")]
    assert told[0] == ("step flaky, attempt 1 of 3: pipeline.py:13 raised OSError: not now, 1; tried again in 1 s")
    assert "── attempt 3 of 3 ──" in bench.printed()


def test_a_step_that_takes_too_long_is_stopped_with_what_it_started(bench: Bench) -> None:
    pipe = bench.world.folder / "alive"
    os.mkfifo(pipe)
    bench.write(f"""
@step(timeout=0.5)
def slow(frame):
    alive = os.open({str(pipe)!r}, os.O_RDWR)
    subprocess.Popen(["sleep", "1000"], pass_fds=[alive])
    while True:
        time.sleep(1)

@pipeline
def training(frame):
    return slow(frame)
""")
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(
        TrainingFailed, match=r"^step slow, attempt 1 of 1: took longer than 0.5 s and was stopped with"
    ):
        bench.go()
    assert os.read(held, 1) == b"", "nobody holds the other end: the program it had started is gone too"
    os.close(held)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("os.kill(os.getpid(), 9)", "was killed"),
        ("os._exit(3)", "exit code 3"),
        ("sys.exit(3)", "raised SystemExit: 3"),
        ("return lambda: 1", "what odd returns is a function, which cannot be kept"),
        ("return {1: 2}", "is a dict with the key 1; keys that are kept are texts"),
        ("return [open(__file__)]", r"what odd returns\[0\] is a _io.TextIOWrapper, which cannot be kept"),
    ],
)
def test_a_step_that_disappoints_is_told_in_a_sentence(bench: Bench, body: str, says: str) -> None:
    bench.write(f"@step\ndef odd(frame):\n    {body}\n\n@pipeline\ndef training(frame):\n    return odd(frame)\n")
    with pytest.raises(TrainingFailed, match=says):
        bench.go()


def test_branches_run_at_once_and_print_while_they_run(bench: Bench) -> None:
    for name in ("a", "b", "seen"):
        os.mkfifo(bench.world.folder / name)
    bench.write(f"""
@step
def tell(frame):
    print("here I am")
    with open({str(bench.world.folder / "a")!r}, "w") as other, open({str(bench.world.folder / "b")!r}) as mine:
        other.write("go")
        other.close()
        mine.read()
    return os.getpid()

@step
def hear(frame):
    with open({str(bench.world.folder / "a")!r}) as mine, open({str(bench.world.folder / "b")!r}, "w") as other:
        mine.read()
        other.write((HERE.parent / "state/runs/run-1/steps/tell/log.txt").read_text())
    return os.getpid()

@step
def both(pids):
    return pids

@pipeline
def training(frame):
    return both([tell(frame), hear(frame)])
""")
    first, second = bench.go(at_once=2)
    assert len({first, second, os.getpid()}) == 3
    assert bench.printed(step="tell") == "here I am\n"


def test_a_damaged_output_is_made_again(bench: Bench) -> None:
    bench.write(TWO)
    bench.go()
    bench.counted()
    output = bench.world.steps(bench.run)["prepare"].output
    assert output is not None
    for digest, size in values.leaves(output):
        bench.world.outputs.path(digest).write_bytes(b"x" * size)
    bench.write(TWO.replace("return sum(numbers)", "return sum(numbers) + 1"))
    assert bench.go() == 4
    assert bench.counted() == ["choose", "fit_a", "prepare"]
    assert [name for _, name, _ in bench.world.events(bench.run, "step.reopen")] == ["fit_a", "prepare"]


def test_a_missing_output_is_made_again_by_whoever_needs_it(bench: Bench) -> None:
    bench.write(TWO)
    bench.go()
    bench.counted()
    for path in bench.world.outputs.root.glob("??/*"):
        path.unlink()
    assert bench.go() == 3
    assert bench.counted() == ["fit_a", "fit_b", "prepare"], "what chose gave is a file that fit_b gave too"


def test_a_step_that_is_gone_from_the_pipeline_is_dropped(bench: Bench) -> None:
    bench.write(TWO.replace("return max(models)", "return max(models).nothing"))
    with pytest.raises(TrainingFailed):
        bench.go()
    bench.counted()
    bench.write(TWO.replace("choose([fit_a(prepared[0]), fit_b(prepared[1])])", "fit_a(prepared[0])"))
    assert bench.again() == 3
    assert bench.counted() == []
    assert bench.states() == {
        "prepare": "succeeded",
        "fit_a": "succeeded",
        "fit_b": StepState.dropped,
        "choose": StepState.dropped,
    }


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "raise ValueError('at once')",
            r"^pipeline.py:\d+: putting the pipeline pipeline.py:training together raised Va",
        ),
        ("return one(frame) + 1", r"^pipeline.py:\d+: the result of step one has no value yet while"),
        ("os._exit(4)", "exit code 4"),
    ],
)
def test_a_pipeline_that_cannot_be_put_together_is_told(bench: Bench, body: str, says: str) -> None:
    bench.write(f"@step\ndef one(frame):\n    return 1\n\n@pipeline\ndef training(frame):\n    {body}\n")
    with pytest.raises(TrainingFailed, match=says):
        bench.go()


def test_logs_are_read_on_from_a_cursor(bench: Bench) -> None:
    bench.write(
        "@step\ndef one(frame):\n    print('first')\n    return 1\n\n@pipeline\ndef training(frame):\n    return one(frame)\n"
    )
    bench.go()
    folder = bench.world.state.run(bench.run.id)
    read: Callable[..., logs.Logs] = lambda after, *, ended: logs.read(  # noqa: E731  shorter here
        folder, ["one"], step=None, after=after, ended=ended
    )
    found = read(None, ended=False)
    assert [(chunk.step, chunk.text) for chunk in found.items] == [("one", "first\n")]
    with (folder / "steps" / "one" / "log.txt").open("a") as file:
        file.write("second\nthi")
        file.flush()
        found = read(found.next, ended=False)
        assert [chunk.text for chunk in found.items] == ["second\n"], "whole lines while it runs"
        assert not found.ended
        found = read(found.next, ended=True)
        assert [chunk.text for chunk in found.items] == ["thi"]
        assert found.ended
