"""The project's dataset: one Delta table of source rows and feedback rows, every change of it a numbered version.

**Repeating is harmless.** A source that says what the table has, and feedback rows that are in it, make no version. So
after a crash the whole is simply done again (see `numbered_table` for what a version is).

**Digests** are of logical content: files, compaction and how rows were cut into batches do not matter. A version's digest
is that of two parts. The *source part* digests all source rows in their order (by time and entity where there is a time,
else as in the source). The *feedback part* is a sum over the feedback rows, to which a row is added, or from which it is
taken, without reading the others (see `digests`).

**Precedence.** Source rows replace source rows, and then feedback rows that the source has now give way: the source is the
later word. Feedback rows replace nothing. It is the same row when entity and time are the same, or, where the contract
has the entity unique, the entity alone; without either, rows are told apart by their prediction only.

Columns of our own: `_origin`, `_prediction_id` (null in source rows), and `_row`, a source row's place, which `read` drops.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from trueline.data import contract_io, digests
from trueline.data.numbered_table import Facts, NumberedTable, Told
from trueline.domain.contracts import Contract, Role
from trueline.errors import InvalidData
from trueline.storage.places import TablePlace

ORIGIN, PREDICTION, ROW = "_origin", "_prediction_id", "_row"
SOURCE, FEEDBACK = "source", "feedback"

COMPACT_EVERY = 32
"""versions: each append is a small file, and many of them are slow to read."""


@dataclass(frozen=True)
class Written:
    """A dataset version: `rows` in all, `origin` (source or feedback) what made it, and where it is in the Delta table."""

    number: int
    digest: str
    rows: int
    origin: str
    delta_version: int
    source_digest: str


class Datasets:
    """One writer at a time, which is the caller's to see to; a second at the same moment is refused, not mixed in."""

    def __init__(self, table: Path | TablePlace) -> None:
        self._table = NumberedTable(table, partition=ORIGIN)
        self._keys: tuple[int, pl.DataFrame] | None = None  # as read at this Delta version

    def newest(self) -> Written | None:
        """The last version, whoever wrote it; None while there is none."""
        self._table.refresh()
        told = self._table.newest()
        return None if told is None else _written(told)

    def ingest_source(self, frame: pl.DataFrame, *, contract: Contract) -> Written | None:
        """Make these the source's rows; None when that is what they are already."""
        self._table.refresh()
        source = _in_order(contract_io.cast(frame, contract), contract)
        source_digest = digests.of_frame(source)
        told = self._table.newest()
        if told is not None and told.facts.source_digest == source_digest:
            return None
        kept, feedback_digest = self._feedback_beside(source, told, contract)
        rows = pl.concat([_as_source(source), kept])
        return self._commit(rows, SOURCE, contract, (source_digest, feedback_digest), rows.height, replace=True)

    def append_feedback(self, frame: pl.DataFrame, *, contract: Contract) -> Written | None:
        """Add served rows that are not there yet, None when all are.

        `frame` has `_prediction_id` in every row; a column of the contract that it lacks is null.
        """
        self._table.refresh()
        rows = self._new(_as_feedback(frame, contract), contract)
        if rows.height == 0:
            return None
        told = self._table.newest()
        if told is None or told.facts.columns == _columns(contract):
            source_digest, before, there = _parts_of(told)
            feedback_digest = digests.of_rows(_content(rows), before)
            count = there + rows.height
            written = self._commit(rows, FEEDBACK, contract, (source_digest, feedback_digest), count, replace=False)
            if written.number % COMPACT_EVERY == 0:
                self._table.compact(FEEDBACK)
            return written
        source, feedback = self._retyped(contract)
        source_digest = digests.of_frame(source.select(contract.names)) if source.height else ""
        feedback = pl.concat([feedback, rows])
        whole = pl.concat([source, feedback])
        parts = (source_digest, digests.of_rows(_content(feedback)))
        return self._commit(whole, FEEDBACK, contract, parts, whole.height, replace=True)

    def read(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        time: str | None = None,
        number: int | None = None,
    ) -> pl.DataFrame:
        """The rows with start <= time < end of the newest version, or of the numbered one; always in the same order.

        That is by time, then source rows as they were written, then feedback rows by prediction id. Rows without a target
        are among them.
        """
        self._table.refresh()
        rows = self._table.scan(number)
        if time is None and (start is not None or end is not None):
            raise InvalidData("rows are cut by time only where trueline.yaml names the time column (data.time)")
        if time is not None and start is not None:
            rows = rows.filter(pl.col(time) >= start)
        if time is not None and end is not None:
            rows = rows.filter(pl.col(time) < end)
        keys = [ROW, PREDICTION] if time is None else [time, ROW, PREDICTION]
        return self._table.collect(rows).sort(keys, nulls_last=True).drop(ROW)

    def _commit(
        self, rows: pl.DataFrame, origin: str, contract: Contract, parts: tuple[str, str], count: int, *, replace: bool
    ) -> Written:
        told = self._table.newest()
        facts = Facts(
            number=1 if told is None else told.facts.number + 1,
            digest=digests.of_texts(*parts),
            rows=count,
            origin=origin,
            source_digest=parts[0],
            feedback_digest=parts[1],
            columns=_columns(contract),
        )
        before = self._table.delta_version()
        written = _written(self._table.commit(rows, facts, replace=replace))
        if not replace and self._keys is not None and self._keys[0] == before:
            there = self._keys[1]
            self._keys = (written.delta_version, pl.concat([there, rows.select(there.columns).cast(there.schema)]))
        return written

    def _retyped(self, contract: Contract) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Source and feedback rows as they are, in the columns of this contract."""
        rows = self._table.collect(self._table.scan()).sort(ROW, PREDICTION, nulls_last=True)
        try:
            typed = contract_io.cast(rows, contract).with_columns(rows[PREDICTION], rows[ROW], rows[ORIGIN])
        except InvalidData as problem:
            raise InvalidData(f"the contract does not fit the rows the dataset has: {problem}") from problem
        from_source = pl.col(ORIGIN) == SOURCE
        return typed.filter(from_source), typed.filter(~from_source)

    def _feedback_beside(self, source: pl.DataFrame, told: Told | None, contract: Contract) -> tuple[pl.DataFrame, str]:
        """The feedback rows that stay when these become the source's rows, and their digest."""
        if told is None:
            return _as_source(source).clear(), digests.NOTHING
        _, feedback = self._retyped(contract)
        names = _identity(contract)
        kept = feedback.join(source, on=names, how="anti", maintain_order="left") if names else feedback
        if told.facts.columns != _columns(contract):
            return kept, digests.of_rows(_content(kept))
        dropped = feedback.join(kept.select(PREDICTION), on=PREDICTION, how="anti")
        return kept, digests.without_rows(_content(dropped), told.facts.feedback_digest)

    def _new(self, rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
        """Those whose prediction is not in the table yet, nor a row of the same entity at the same time."""
        known = self._known(contract)
        for names in ([PREDICTION], _identity(contract)):
            if names:
                whole = pl.all_horizontal(pl.col(names).is_not_null())
                twice = ~pl.struct(names).is_first_distinct()
                rows = rows.filter(~(whole & twice)).join(known, on=names, how="anti", maintain_order="left")
        return rows

    def _known(self, contract: Contract) -> pl.DataFrame:
        """What tells the rows of the table apart; kept in memory, since appends are small and come often."""
        types = {one.name: contract_io.DTYPES[one.kind] for one in contract.columns if one.name in _identity(contract)}
        types[PREDICTION] = pl.String()
        if self._table.newest() is None:
            return pl.DataFrame(schema=types)
        version = self._table.delta_version()
        if self._keys is None or self._keys[0] != version or set(self._keys[1].columns) != set(types):
            rows = self._table.scan()
            there = rows.collect_schema()
            columns = [pl.col(name) if name in there else pl.lit(None).alias(name) for name in types]
            self._keys = (version, self._table.collect(rows.select(columns)))
        return self._keys[1].cast(pl.Schema(types), strict=False)


def _identity(contract: Contract) -> list[str]:
    """The columns that say which row it is: an entity that comes again does so at another time, unless it is unique."""
    entity, time = contract.of(Role.entity), contract.of(Role.time)
    if entity and all(column.unique for column in entity):
        return [column.name for column in entity]
    return [column.name for column in (*entity, *time)] if entity and time else []


def _written(told: Told) -> Written:
    facts = told.facts
    return Written(facts.number, facts.digest, facts.rows, facts.origin, told.delta_version, facts.source_digest)


def _parts_of(told: Told | None) -> tuple[str, str, int]:
    if told is None:
        return "", digests.NOTHING, 0
    return told.facts.source_digest, told.facts.feedback_digest, told.facts.rows


def _in_order(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """By time and entity where there is a time, else as it stands; rows that are alike in both keep their order."""
    keys = [column.name for role in (Role.time, Role.entity) for column in contract.of(role)]
    return rows.sort(keys, nulls_last=True, maintain_order=True) if contract.of(Role.time) else rows


def _as_source(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        pl.lit(None, dtype=pl.String).alias(PREDICTION),
        pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW),
        pl.lit(SOURCE).alias(ORIGIN),
    )


def _as_feedback(frame: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """In the contract's types, by time and prediction: of two rows of one entity the earlier one counts."""
    if PREDICTION not in frame.columns or frame[PREDICTION].null_count() > 0:
        raise InvalidData(f"feedback rows need {PREDICTION}, which says what prediction they were served for")
    rows = contract_io.cast(frame, contract).with_columns(frame[PREDICTION].cast(pl.String))
    return rows.sort(*(column.name for column in contract.of(Role.time)), PREDICTION, nulls_last=True).with_columns(
        pl.lit(None, dtype=pl.Int64).alias(ROW), pl.lit(FEEDBACK).alias(ORIGIN)
    )


def _content(rows: pl.DataFrame) -> pl.DataFrame:
    """What a feedback row says."""
    return rows.drop(ROW, ORIGIN)


def _columns(contract: Contract) -> str:
    return digests.of_texts(*(f"{column.name}:{column.kind}" for column in contract.columns))
