"""The loop of batch scoring: piece in, contract, executor, piece out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from trueline.errors import InvalidData, InvalidInput, TruelineError
from trueline.packaging.executors import Executor
from trueline.scoring import lines
from trueline.scoring.inputs import Piece
from trueline.scoring.rows import Judged, Rules, accepted, columns_of

PREDICTION = "prediction"
VERSION = "version"
REFUSED = "refused"
CHILD_ROWS = 4096  # per call of an executor that is not in this process

Floats = NDArray[np.float64]


class BadRows(StrEnum):
    """What becomes of a row that the contract or the model refuses."""

    fail = "fail"
    null = "null"
    drop = "drop"


@dataclass
class Tally:
    """What a scoring came to."""

    rows: int = 0
    refused: int = 0
    first_problem: str | None = None
    doubtful: Counter[str] = field(default_factory=Counter)


class Scoring:
    """One model over one input; `outputs` gives what is to be written."""

    def __init__(
        self,
        executor: Executor,
        *,
        version: int | None,
        bad_rows: BadRows,
        keep: Sequence[str] | None,
        seen: Callable[[Piece], None] = lambda _: None,
    ) -> None:
        self.tally = Tally()
        self._executor = executor
        self._rules = Rules(executor.signature)
        self._version = version
        self._bad_rows = bad_rows
        self._keep = keep
        self._seen = seen
        self._added = (PREDICTION, VERSION, *([REFUSED] if bad_rows is BadRows.null else []))

    @property
    def own(self) -> tuple[str, ...]:
        """The model's inputs."""
        return tuple(self._executor.signature.names)

    @property
    def wanted(self) -> list[str] | None:
        """The columns that have to be read; None for all."""
        if self._keep is None or self._executor.signature.allowed is not None:
            return None
        return list(dict.fromkeys([*self._keep, *self._executor.signature.names]))

    def outputs(self, pieces: Iterator[Piece]) -> Iterator[pa.Table]:
        """The rows of each piece with their predictions, in order; at least one table, so that there is a schema."""
        for piece in pieces:
            self._rules.check_names(piece.table.column_names, piece.where)
            self._check_kept(piece)
            yield self._piece(piece)
            self._seen(piece)

    def _check_kept(self, piece: Piece) -> None:
        names = piece.table.column_names
        kept = names if self._keep is None else self._keep
        if absent := [name for name in kept if name not in names]:
            raise InvalidInput(
                f"{piece.where} has no column '{absent[0]}'; correct --columns, it has {', '.join(names)}"
            )
        if clash := [name for name in kept if name in self._added]:
            raise InvalidInput(
                f"{piece.where} has a column '{clash[0]}' already, which is what the output calls one of its own; "
                "leave it out with --columns, or rename it"
            )

    def _piece(self, piece: Piece) -> pa.Table:
        judged = self._rules.judge(piece.table, texts=piece.texts, said=piece.said)
        refused = judged.refused.to_numpy().copy()
        problems = self._problems(piece, judged, refused)
        places = np.flatnonzero(~refused)
        values = np.full(len(refused), np.nan)
        frame = accepted(judged, self._executor.signature.inputs)
        for start, found in self._predict(frame, piece, places, problems):
            values[places[start : start + len(found)]] = found
        for row in np.flatnonzero(~np.isfinite(values)):
            if int(row) not in problems:
                self._refuse(piece, int(row), "the model gave no finite number", problems)
        self.tally.rows += len(values)
        self.tally.refused += len(problems)
        self.tally.doubtful.update(judged.doubtful)
        return self._table(piece, judged, values, problems)

    def _problems(self, piece: Piece, judged: Judged, refused: NDArray[np.bool_]) -> dict[int, str]:
        problems: dict[int, str] = {}
        for row in np.flatnonzero(refused):
            self._refuse(piece, int(row), self._rules.problem(judged, int(row)), problems)
        return problems

    def _refuse(self, piece: Piece, row: int, problem: str, problems: dict[int, str]) -> None:
        where = f"{piece.where}: row {piece.first + row}: {problem}"
        if self._bad_rows is BadRows.fail:
            raise InvalidData(f"{where}; correct the row, or choose --bad-rows null or drop")
        self.tally.first_problem = self.tally.first_problem or where
        problems[row] = problem

    def _predict(
        self, frame: pl.DataFrame, piece: Piece, places: NDArray[np.intp], problems: dict[int, str]
    ) -> Iterator[tuple[int, Floats]]:
        """Predictions of slices of the accepted rows, each with where it begins."""
        step = max(1, len(frame) if self._executor.in_process else CHILD_ROWS)
        for start in range(0, len(frame), step):
            yield from self._halving(frame[start : start + step], start, piece, places, problems)

    def _halving(
        self, frame: pl.DataFrame, start: int, piece: Piece, places: NDArray[np.intp], problems: dict[int, str]
    ) -> Iterator[tuple[int, Floats]]:
        """Where the executor refuses, which row it was; a server tries requests one by one for the same reason."""
        columns = columns_of(frame, arrays=self._executor.in_process)
        try:
            found = self._executor.predict(columns)
        except TruelineError:
            raise
        except Exception as problem:  # noqa: BLE001  whatever a model raises is the row's or the model's failure
            if len(frame) > 1:
                half = len(frame) // 2
                yield from self._halving(frame[:half], start, piece, places, problems)
                yield from self._halving(frame[half:], start + half, piece, places, problems)
                return
            said = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
            self._refuse(piece, int(places[start]), f"the model raised {said}", problems)
        else:
            if found.shape != (len(frame),):
                raise InvalidData(f"the model gave {found.shape} for {len(frame)} rows; it has to give one number each")
            yield start, found

    def _table(self, piece: Piece, judged: Judged, values: Floats, problems: dict[int, str]) -> pa.Table:
        table = piece.table if self._keep is None else piece.table.select(list(self._keep))
        rows = len(values)
        bad = np.zeros(rows, dtype=bool)
        bad[list(problems)] = True
        versions = pa.nulls(rows, pa.int64()) if self._version is None else pa.repeat(pa.scalar(self._version), rows)
        added = {PREDICTION: pa.array(values, mask=bad), VERSION: versions}
        if self._bad_rows is BadRows.null:
            added[REFUSED] = pa.array(
                [problems.get(row) for row in range(rows)] if problems else pa.nulls(rows), pa.string()
            )
        columns = dict(zip(table.column_names, table.columns, strict=True)) | added
        if piece.texts or piece.said is not None:
            columns |= _typed(table, judged.frame)
        made = pa.table(columns)
        if piece.said is not None:
            made = made.cast(lines.marked(made.schema, table.schema))
        return made.filter(pa.array(~bad)) if problems and self._bad_rows is BadRows.drop else made


def _typed(table: pa.Table, inputs: pl.DataFrame) -> dict[str, pa.Array]:
    """What a file has as text or JSON and the contract has a kind for, in that kind."""
    made = inputs.select(name for name in inputs.columns if name in table.column_names).to_arrow()
    return {
        name: column.cast(pa.string()) if pa.types.is_large_string(column.type) else column
        for name, column in zip(made.column_names, made.columns, strict=True)
    }
