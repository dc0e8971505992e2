"""`@step` and `@pipeline`: a graph from the arguments, and a sentence for what cannot be one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import trueline
from trueline import pipeline, step
from trueline.errors import InvalidInput
from trueline.pipelines.graph import INPUT, Graph, from_plain, to_plain


@step
def prepare(frame: Any) -> tuple[list[int], int]:
    return [len(frame)], 2


@step(retries=2, timeout="10m")
def fit(numbers: list[int], *more: Any, depth: int = 3, **named: Any) -> int:
    return sum(numbers) + depth + len(more) + len(named)


@step(outputs=2, cache=False)
def two(frame):
    return frame, frame


@pipeline
def training(frame: Any, depth: int = 3) -> int:
    features, count = prepare(frame)
    first = fit(features, count, depth=depth)
    return fit([first, 1], name={"all": (count, first)})


def test_the_public_names_are_these() -> None:
    assert trueline.__all__ == ["__version__", "log", "log_params", "pipeline", "step"]


def test_the_arguments_are_the_graph() -> None:
    graph = training.trace({"depth": 5})
    assert [(call.name, call.needs) for call in graph.calls] == [
        ("prepare", ()),
        ("fit", ("prepare",)),
        ("fit-2", ("fit", "prepare")),
    ]
    first = graph.calls[1]
    assert (first.retries, first.timeout, first.cache) == (2, 600.0, True)
    assert first.arguments == {
        "numbers": {"step": "prepare", "path": [0]},
        "more": {"tuple": [{"step": "prepare", "path": [1]}]},
        "depth": {"value": 5},
    } or first.arguments["named"] == {"dict": {"depth": {"value": 5}}}
    assert graph.calls[0].arguments == {"frame": {"step": INPUT, "path": []}}
    assert graph.result == {"step": "fit-2", "path": []}
    assert from_plain(to_plain(graph)) == graph


def test_outside_a_pipeline_they_are_the_functions() -> None:
    assert prepare([1, 2]) == ([2], 2)
    assert training([1, 2], depth=1) == fit([fit([2], 2, depth=1), 1], name={})
    assert prepare.__name__ == "prepare"


def wired(function: Callable[..., Any]) -> Graph:
    return pipeline(function).trace({})


def test_steps_may_be_wired_in_functions_and_pipelines_within() -> None:
    def part(frame):
        return prepare(frame)[0]

    inner = pipeline(part)
    graph = wired(lambda frame: fit(inner(frame), two(frame)[1]["x"]))
    assert [call.name for call in graph.calls] == ["prepare", "two", "fit"]
    assert graph.calls[2].arguments["more"] == {"tuple": [{"step": "two", "path": [1, "x"]}]}


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda frame: fit(frame) if prepare(frame) else None, "the result of step prepare has no value yet while"),
        (
            lambda frame: fit(frame.columns),
            r"the frame has no value yet .* so `.columns` is not possible; do it in a step",
        ),
        (lambda frame: fit(prepare(frame)[1:]), "taking the part slice"),
        (lambda frame: fit(prepare(frame) + 1), "calculating with it is not possible"),
        (lambda frame: fit(frame) == 3, "comparing with it"),
        (lambda frame: fit(*fit(frame)), r"how many outputs the result of step fit has .* write @step\(outputs=2\)"),
        (
            lambda frame: fit(frame, print),
            "step fit is given more as a builtin_function_or_method; pass results of steps",
        ),
        (lambda _: prepare(), "step prepare cannot be called like this: missing a required argument: 'frame'"),
        (lambda _: None, "returned nothing; return what the step gave"),
        (lambda frame: frame, "returned the frame"),
        (lambda frame: [prepare(frame)], "returned list"),
    ],
)
def test_what_cannot_be_wired_is_told(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        wired(function)


def test_results_do_not_travel_between_pipelines() -> None:
    kept = []
    wired(lambda frame: kept.append(prepare(frame)) or fit(frame))
    with pytest.raises(InvalidInput, match="step fit is given numbers from another pipeline's run"):
        wired(lambda _: fit(kept[0]))


def test_a_step_is_at_the_top_of_a_module() -> None:
    @step
    def hidden(frame):
        return frame

    with pytest.raises(InvalidInput, match=r"step hidden is defined inside test_a_step_is_at.*define it at the top"):
        wired(hidden)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"retries": -1}, "retries is a number from 0 to 100, not -1"),
        ({"timeout": "soon"}, "timeout is a span above nothing, as 90s, 10m or 2h"),
        ({"timeout": 0}, "not 0"),
    ],
)
def test_odd_options_are_told(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        step(**given)


def test_odd_functions_are_told() -> None:
    async def later(frame):
        return frame

    with pytest.raises(InvalidInput, match="step later must return its result: it cannot be async or yield"):
        step(later)
    with pytest.raises(InvalidInput, match="@step is for functions"):
        step(int)


@pytest.mark.parametrize(("said", "seconds"), [("90s", 90), ("1.5h", 5400), (timedelta(minutes=2), 120), (7, 7)])
def test_time_outs_are_spans_or_seconds(said: Any, seconds: float) -> None:
    assert step(timeout=said)(len).timeout == seconds
