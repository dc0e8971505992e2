"""A Delta table whose commits carry our own version numbers and digests in their metadata.

A version exists from the instant its commit does, whole or not at all. Who dies before recording it elsewhere finds it
again with `newest()`. The number is also an application transaction of the commit, so of two writers at one moment the
second is refused. Commits without our metadata (compaction, maintenance by others) make no version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from trueline.data.delta_reader import open_table, scan_table
from trueline.errors import Conflict, NotFound, Unavailable
from trueline.storage.places import TablePlace
from trueline.storage.troubles import explain

TOLD = "trueline.dataset"
"""The key in a commit's metadata, and the application whose transaction a number is."""

KEEP_HISTORY = {"delta.enableExpiredLogCleanup": "false"}
WRITING = WriterProperties(compression="ZSTD", max_row_group_size=131_072)


@dataclass(frozen=True)
class Facts:
    """What a commit says about the version it made: the digest of all rows and of its two parts."""

    number: int
    digest: str
    rows: int
    origin: str
    source_digest: str
    feedback_digest: str
    columns: str  # digest of the contract's columns: rows of other columns do not go into the same files


@dataclass(frozen=True)
class Told:
    """A version of ours and the Delta version that made it."""

    facts: Facts
    delta_version: int


class NumberedTable:
    """Sees the table as it was at the last `refresh`, or at its own last commit if that is later."""

    def __init__(self, path: Path | TablePlace, partition: str) -> None:
        self._place = TablePlace.of(path)
        self._partition = partition
        self._handle: DeltaTable | None = None
        self._newest: tuple[int, Told | None] = (-1, None)  # as read at this Delta version

    def refresh(self) -> None:
        """See what others have committed."""
        try:
            if self._handle is not None:
                self._handle.update_incremental()
            else:
                self._handle = open_table(self._place)
        except TableNotFoundError:
            self._handle = None
        except (DeltaError, OSError) as problem:
            self._handle = None
            raise Unavailable(f"the dataset table {self._place} cannot be opened: {explain(problem)}") from problem

    def newest(self) -> Told | None:
        """The last version, whoever wrote it; None while there is none."""
        if self._handle is None:
            return None
        version = self._handle.version()
        if self._newest[0] != version:
            found = next(self._told(2), None) or next(self._told(None), None)
            self._newest = (version, found)
        return self._newest[1]

    def delta_version(self) -> int:
        """Of the newest commit, ours or not; -1 while there is none."""
        return -1 if self._handle is None else self._handle.version()

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        try:
            return rows.collect()
        except (DeltaError, OSError, pl.exceptions.ComputeError) as problem:
            raise Unavailable(f"the dataset table {self._place} cannot be read: {explain(problem)}") from problem

    def scan(self, number: int | None = None) -> pl.LazyFrame:
        """The rows of the newest version, or of the numbered one."""
        newest = self.newest()
        if self._handle is None or newest is None:
            raise NotFound("the dataset has no version yet; its source is ingested first")
        if number is None or number == newest.facts.number:
            return scan_table(self._handle, self._place)
        for told in self._told(None):
            if told.facts.number == number:
                return scan_table(open_table(self._place, told.delta_version), self._place)
        raise NotFound(f"the dataset has no version {number}; the newest is {newest.facts.number}")

    def commit(self, rows: pl.DataFrame, facts: Facts, *, replace: bool) -> Told:
        """Append the rows, or make them all there is: one Delta commit, which is the version."""
        table = self._handle
        try:
            write_deltalake(
                self._place.uri if table is None else table,
                rows,
                mode="overwrite" if replace else "append",
                schema_mode="overwrite" if replace and table is not None else None,
                partition_by=[self._partition],
                configuration=KEEP_HISTORY if table is None else None,
                storage_options=self._place.options,
                writer_properties=WRITING,
                commit_properties=CommitProperties(
                    custom_metadata={TOLD: json.dumps(asdict(facts))},
                    app_transactions=[Transaction(TOLD, facts.number)],
                ),
            )
        except CommitFailedError as problem:
            self._handle = None
            self.refresh()
            told = self.newest()
            if told is not None and told.facts == facts:  # our own commit, whose answer was lost on its way
                return told
            raise Conflict(
                f"somebody else wrote dataset version {facts.number} at the same moment; try again"
            ) from problem
        except (DeltaError, OSError) as problem:
            self._handle = None
            raise Unavailable(f"the dataset table {self._place} cannot be written: {explain(problem)}") from problem
        if table is None:
            self.refresh()
        told = self.newest()
        if told is None or told.facts != facts:
            raise Conflict(f"somebody else wrote to the dataset right after version {facts.number}; try again")
        return told

    def compact(self, partition: str) -> None:
        """Put a partition's small files together. It makes no version, and losing it costs only speed."""
        if self._handle is None:
            return
        try:
            self._handle.optimize.compact(partition_filters=[(self._partition, "=", partition)])
        except (DeltaError, OSError):
            self._handle = None

    def _told(self, limit: int | None) -> Iterator[Told]:
        """Our versions in the table's history, newest first."""
        try:
            commits = [] if self._handle is None else self._handle.history(limit)
        except (DeltaError, OSError) as problem:
            raise Unavailable(f"the dataset table {self._place} cannot be read: {explain(problem)}") from problem
        for commit in commits:
            if TOLD in commit:
                yield Told(Facts(**json.loads(commit[TOLD])), commit["version"])
