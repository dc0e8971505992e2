"""Reads of a Delta table that another process appends to."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from trueline.errors import Unavailable
from trueline.storage.places import TablePlace
from trueline.storage.troubles import explain


class DeltaReader:
    """One handle, brought up to the newest commit before every read; until the first commit the table is empty."""

    def __init__(self, table: Path | TablePlace, schema: pl.Schema) -> None:
        self._place = TablePlace.of(table)
        self._schema = schema
        self._handle: DeltaTable | None = None

    def read(self, *predicates: pl.Expr) -> pl.DataFrame:
        """The rows that satisfy every predicate, in no order; those on `day` are answered from the partitions' names.

        Raises:
            Unavailable: the table is there and cannot be read.
        """
        try:
            handle = self._newest()
            if handle is None:
                return pl.DataFrame(schema=self._schema)
            frame = scan_table(handle, self._place).filter(*predicates).collect()
        except (DeltaError, OSError, pl.exceptions.PolarsError) as problem:
            self._handle = None
            raise Unavailable(f"the table {self._place} cannot be read: {explain(problem)}") from problem
        return frame.select(pl.col(name).cast(kind) for name, kind in self._schema.items())

    def present(self, column: str, values: pl.Series, *predicates: pl.Expr) -> pl.Series:
        """Those of the values that a row which satisfies every predicate has in its column; of the table that column is all
        that is read, and a piece at a time.

        Raises:
            Unavailable: the table is there and cannot be read.
        """
        wanted = pl.LazyFrame({column: values.unique()})
        try:
            handle = self._newest()
            if handle is None:
                return values.clear()
            there = scan_table(handle, self._place).filter(*predicates).select(column)
            return wanted.join(there, on=column, how="semi").collect(engine="streaming").to_series()
        except (DeltaError, OSError, pl.exceptions.PolarsError) as problem:
            self._handle = None
            raise Unavailable(f"the table {self._place} cannot be read: {explain(problem)}") from problem

    def days(self) -> list[str]:
        """The partitions there are, ascending, without reading any row."""
        try:
            handle = self._newest()
            return [] if handle is None else sorted({str(one["day"]) for one in handle.partitions()})
        except (DeltaError, OSError) as problem:
            self._handle = None
            raise Unavailable(f"the table {self._place} cannot be read: {explain(problem)}") from problem

    def _newest(self) -> DeltaTable | None:
        if self._handle is not None:
            try:
                self._handle.update_incremental()
            except DeltaError:  # its log was cleaned up behind us, or the table was made anew
                self._handle = None
        if self._handle is None:
            try:
                self._handle = open_table(self._place)
            except TableNotFoundError:
                return None
        return self._handle


def open_table(place: TablePlace, version: int | None = None) -> DeltaTable:
    """A handle of the table as it is now, or as it was; TableNotFoundError when there is none."""
    return DeltaTable(place.uri, version=version, storage_options=place.options)


def scan_table(handle: DeltaTable, place: TablePlace) -> pl.LazyFrame:
    """The rows of a handle; Polars is told by itself how to get there, for it reads the options in its own way."""
    return pl.scan_delta(handle, storage_options=place.reading)
