"""What one server came to with one model over one protocol: a line of the table beside the figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from figures import number

COLUMNS = (
    "model",
    "endpoint",
    "server",
    "answers / CPU-s",
    "trueline is",
    "p50 / p99 ms, 1 connection",
    "p50 / p99 ms, 32",
    "MiB",
    "first prediction",
    "",
)


@dataclass(frozen=True)
class Score:
    """The best of all rounds, each number by itself; numbers are None for a server that could not be measured."""

    server: str
    model: str
    endpoint: str
    rate: float | None = None  # answers per CPU second of all its processes, over 32 connections
    ratio: float | None = None  # trueline's rate over the same kind of endpoint, divided by it
    p50_alone: float | None = None  # milliseconds, one connection
    p99_alone: float | None = None
    p50: float | None = None  # milliseconds, 32 connections
    p99: float | None = None
    memory: float | None = None  # resident MiB of all its processes, files that they share once
    start: float | None = None  # seconds from starting the process to the first prediction
    note: str = ""


def line(score: Score) -> str:
    """As JSON, four digits of each number."""
    facts = {name: float(f"{fact:.4g}") if isinstance(fact, float) else fact for name, fact in asdict(score).items()}
    return json.dumps(facts, ensure_ascii=False)


def is_score(text: str) -> bool:
    """Whether a line of output is one of these, and not a figure."""
    return "server" in json.loads(text)


def parse(text: str) -> Score:
    """The inverse of `line`."""
    return Score(**json.loads(text))


def cells(score: Score) -> list[str]:
    return [
        score.model,
        score.endpoint,
        score.server,
        _shown(score.rate),
        "" if score.ratio is None else f"{number(score.ratio)}×",
        _pair(score.p50_alone, score.p99_alone),
        _pair(score.p50, score.p99),
        _shown(score.memory),
        "" if score.start is None else f"{score.start:.2f} s",
        score.note,
    ]


def table(scores: Sequence[Score]) -> str:
    """For people, in columns."""
    rows = [list(COLUMNS), *(cells(score) for score in scores)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(one.rstrip() for one in lines)


def markdown(scores: Iterable[Score]) -> str:
    rows = "".join(f"| {' | '.join(cells(score))} |\n" for score in scores)
    return f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n{rows}"


def _shown(value: float | None) -> str:
    return "" if value is None else number(value)


def _pair(middle: float | None, late: float | None) -> str:
    return "" if middle is None or late is None else f"{number(middle)} / {number(late)}"
