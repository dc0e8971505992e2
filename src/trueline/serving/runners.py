"""A loaded version that scores batches: in this process, or (children.py) in one of its own.

`run` never raises and calls `done` exactly once; in this process before it returns. A batch is columns of equal length
that the version's contract has accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trueline.journal.records import Outcome
from trueline.packaging.executors import Executor
from trueline.packaging.signature import Signature
from trueline.serving.plain import Tuples
from trueline.serving.scoreboard import Scoreboard

Values = NDArray[np.float64]
Columns = Mapping[str, Sequence[Any]]


class Batch:
    """Rows to score, as columns or as tuples in the order of the signature's inputs; what is asked for is made."""

    __slots__ = ("_columns", "_names", "event_us", "requests", "rows", "tuples", "waited_ns")

    def __init__(
        self,
        columns: Columns | None,
        rows: int,
        requests: int,
        event_us: int,  # of its first request
        *,
        tuples: Tuples | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self._columns = columns
        self.rows = rows
        self.requests = requests
        self.event_us = event_us
        self.tuples = tuples
        self._names = names
        self.waited_ns = 0  # of the first request, by the time it is scored

    @property
    def columns(self) -> Columns:
        if self._columns is None:
            values = zip(*(self.tuples or ()), strict=True)
            self._columns = {name: list(column) for name, column in zip(self._names, values, strict=True)}
        return self._columns


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a batch: values of shape (rows,), or why there are none.

    `separable`: the executor refused the batch and is alive, so its requests can be tried one by one.
    """

    outcome: Outcome
    values: Values | None
    error: str | None
    exec_us: int
    separable: bool = False


Done = Callable[[Scored], None]


class Runner(Protocol):
    signature: Signature
    kind: str

    def run(self, batch: Batch, done: Done) -> None:
        """Score one batch; the caller gives the next one only after `done`."""

    async def close(self) -> None:
        """Let go of the model."""


class InProcess:
    """For executors that proved themselves harmless (ONNX): a call, no hand-over."""

    def __init__(self, version: int, executor: Executor, scoreboard: Scoreboard) -> None:
        self.signature = executor.signature
        self.kind = executor.kind
        self._version = version
        self._predict = executor.predict
        self._predict_rows: Callable[[Tuples], Values] | None = getattr(executor, "predict_rows", None)
        self._scoreboard = scoreboard

    def run(self, batch: Batch, done: Done) -> None:
        self._scoreboard.begin(self._version, batch.requests, batch.event_us, batch.rows)
        started = perf_counter_ns()
        try:
            values = self._score(batch)
            spent = (perf_counter_ns() - started) // 1000
            scored = judge(values, batch.rows, spent)
        except Exception as problem:  # noqa: BLE001  whatever a model raises is its failure, not the server's
            spent = (perf_counter_ns() - started) // 1000
            scored = Scored("failed", None, describe(problem), spent, separable=True)
        finally:
            self._scoreboard.end()
        done(scored)

    async def close(self) -> None:
        return

    def _score(self, batch: Batch) -> Values:
        if batch.tuples is not None and self._predict_rows is not None:
            return self._predict_rows(batch.tuples)
        return self._predict(batch.columns)


def judge(values: Any, rows: int, exec_us: int) -> Scored:
    """Scored as answered when the executor kept its promise of one number per row."""
    if isinstance(values, np.ndarray) and values.dtype.kind not in "fiub":
        error = f"the model gave values of type {values.dtype}, expected numbers"
        return Scored("invalid_output", None, error, exec_us)
    if not isinstance(values, np.ndarray) or values.shape != (rows,):
        found = getattr(values, "shape", type(values).__name__)
        return Scored("invalid_output", None, f"the model gave {found} for {rows} rows, expected ({rows},)", exec_us)
    return Scored("answered", values, None, exec_us)


def describe(problem: BaseException) -> str:
    """An exception as one line of bounded length."""
    text = " ".join(f"{type(problem).__name__}: {problem}".split())
    return text if len(text) <= 300 else text[:297] + "..."
