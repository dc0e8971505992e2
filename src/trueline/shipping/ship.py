"""Sealed journal segments into the Delta tables, each exactly once.

Theory of operation. A commit that appends the rows of segments up to n carries `Transaction(replica, n)`, so rows and
progress become visible together, and what a table has of a replica is read off the table, not off a note beside it.
Before a commit the newest table is asked: segments up to its transaction version are in it. Two shippers of one
replica may both ask and both commit; delta-rs refuses the second (its snapshot does not know the first), which then
asks again. Killed at any instant, the next shipper goes on where each of the two tables stands.

A segment without labels makes no commit in the labels table; asked again, it has none again.

Where there is a storage beside the state folder, a segment that is in both tables is also kept there, under its replica,
number and checksum: keeping it twice is once, and another journal under the same name does not write over it. Its local
file may go when all three have it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from trueline.data import labels, predictions
from trueline.data.delta_reader import open_table
from trueline.errors import Conflict, InvalidData, Unavailable
from trueline.journal import segments
from trueline.settings import StateFolder
from trueline.shipping.rows import Batch
from trueline.storage.objects import Objects
from trueline.storage.places import Storage, TablePlace
from trueline.storage.trees import file_digest
from trueline.storage.troubles import explain

log = logging.getLogger(__name__)

BATCH_BYTES = 16 * 1024 * 1024
"""Of journal in one commit; more bounds nothing but memory."""
CHECKPOINT_COMMITS = 20
ATTEMPTS = 10
JOURNAL = "journal"
"""Where the storage keeps segments."""
UPKEEP_COMMITS = 100
"""Commits between two compactions: a commit costs about 0.03 ms more for each file the table has."""
COMPACT_BYTES = 16 * 1024 * 1024
"""Files of this size are left alone, which bounds how often a row is written."""
UNREAD_HOURS = 1
"""How long a reader may sit on a snapshot before the files behind it are gone."""
CONFIGURATION = {
    "delta.checkpointInterval": str(CHECKPOINT_COMMITS),
    "delta.logRetentionDuration": f"interval {UNREAD_HOURS} hours",
    "delta.enableExpiredLogCleanup": "true",
    "delta.deletedFileRetentionDuration": f"interval {UNREAD_HOURS} hours",
}


class Target:
    """One of the two tables, as one replica's shipper sees it."""

    def __init__(self, place: TablePlace, schema: pl.Schema, replica: str) -> None:
        self._place = place
        self._schema = schema
        self._replica = replica
        self._handle: DeltaTable | None = None
        self._commits = 0  # since the handle was opened
        self._unkept = 0  # commits since the last upkeep
        self.through = 0  # segments up to here are in the table, or have nothing for it

    def refresh(self) -> DeltaTable:
        """Learn from the newest table how far it is, whoever brought it there.

        A commit must go through the very handle that was asked: a later one would know, and hide, a rival's commit.
        """
        try:
            handle = self._newest()
            self.through = max(self.through, handle.transaction_version(self._replica) or 0)
        except (DeltaError, OSError) as problem:
            self._handle = None
            raise Unavailable(f"the table {self._place} cannot be read: {explain(problem)}") from problem
        return handle

    def append(self, rows: pl.DataFrame, through: int) -> None:
        """Append the rows of segments up to `through`, without those of segments the table has already."""
        for _ in range(ATTEMPTS):
            if rows.is_empty():
                break
            handle = self.refresh()
            rows = rows.filter(pl.col("segment") > self.through)
            if not rows.is_empty() and self._commit(handle, rows, through):
                break
        else:
            raise Conflict(f"{self._place} kept changing while segment {through} was appended; it is tried again")
        self.through = max(self.through, through)
        if self._unkept >= UPKEEP_COMMITS:
            self._keep_up()

    def _commit(self, handle: DeltaTable, rows: pl.DataFrame, through: int) -> bool:
        once = CommitProperties(app_transactions=[Transaction(self._replica, through)])
        try:
            write_deltalake(handle, rows, mode="append", commit_properties=once)
        except CommitFailedError as problem:  # another shipper of this replica, or one that changed the table
            log.info("%s moved while segment %d was appended; looking again: %s", self._place, through, problem)
            self._handle = None
            return False
        except (DeltaError, OSError) as problem:
            self._handle = None
            raise Unavailable(f"the table {self._place} cannot be written: {explain(problem)}") from problem
        self._commits += 1
        self._unkept += 1
        return True

    def _keep_up(self) -> None:
        """Merge small files and remove those long merged. Rows stay the same, so failing costs nothing but speed."""
        self._unkept = 0
        handle, self._handle = self._open(), None
        try:
            handle.optimize.compact(target_size=COMPACT_BYTES)
            handle.vacuum(retention_hours=UNREAD_HOURS, dry_run=False, enforce_retention_duration=False)
        except (DeltaError, OSError) as problem:
            log.info("%s is compacted another time: %s", self._place, explain(problem))

    def _newest(self) -> DeltaTable:
        """The table at its newest commit; opened anew now and then, since a handle drags along all it has seen."""
        if self._handle is None or self._commits >= CHECKPOINT_COMMITS:
            self._handle, self._commits = self._open(), 0
        else:
            self._handle.update_incremental()
        return self._handle

    def _open(self) -> DeltaTable:
        try:
            return open_table(self._place)
        except TableNotFoundError:
            with suppress(DeltaError):  # another replica's shipper makes it in the same moment
                write_deltalake(
                    self._place.uri,
                    pl.DataFrame(schema=self._schema),
                    partition_by=["day"],
                    mode="ignore",
                    name=self._place.name,
                    configuration=CONFIGURATION,
                    storage_options=self._place.options,
                )
            return open_table(self._place)


class Shipper:
    """Ships one replica's journal; safe to have twice, and to kill."""

    def __init__(self, state: StateFolder, replica: str, storage: Storage | None = None) -> None:
        storage = storage or Storage.home(state)
        self.journal = state.journal(replica)
        self.replica = replica
        self._predictions = Target(storage.table("predictions"), predictions.SCHEMA, replica)
        self._labels = Target(storage.table("labels"), labels.SCHEMA, replica)
        self._objects = storage.objects
        self._kept = 0  # segments up to here are kept in the storage

    @property
    def through(self) -> int:
        """The segment up to which both tables have everything, as last seen."""
        return min(self._predictions.through, self._labels.through)

    @property
    def done(self) -> int:
        """The segment up to which nothing is left to do: in both tables, and kept where that is asked for."""
        return self.through if self._objects is None else min(self.through, self._kept)

    def ship_sealed(self) -> int:
        """Ship every sealed segment and return the highest (0: there is none).

        Raises:
            InvalidData: a segment is damaged, or the journal is not the one that was shipped from before.
            Unavailable: a table cannot be read or written.
            Conflict: other writers kept winning the table; ask again.
        """
        present = segments.numbers(self.journal)
        if not present:
            return 0
        for target in (self._predictions, self._labels):
            target.refresh()
        self._check(present)
        for numbers in self._batches(present[:-1]):
            batch = Batch(self.replica)
            for number in numbers:
                batch.add(number, segments.read_segment(self.journal, number))
            self._predictions.append(batch.predictions, numbers[-1])
            self._labels.append(batch.labels, numbers[-1])
        if self._objects is not None:
            self._keep(self._objects, present[:-1])
        return present[-1] - 1

    def delete_through(self, number: int) -> list[int]:
        """Delete sealed segments up to `number`, of those with which nothing is left to do."""
        return segments.delete_through(self.journal, min(number, self.done))

    def _keep(self, objects: Objects, sealed: list[int]) -> None:
        """Keep what is in the tables and not yet kept; a new shipper asks the storage what is."""
        for number in sealed:
            if number <= self._kept:
                continue
            path = segments.path_of(self.journal, number)
            key = f"{JOURNAL}/{self.replica}/{path.stem}-{file_digest(path)[:16]}.seg"
            there = objects.stamp(key)
            if there is None or there.size != path.stat().st_size:
                objects.put(key, path)
            self._kept = number

    def _check(self, present: list[int]) -> None:
        shipped = max(self._predictions.through, self._labels.through)
        if present[-1] <= shipped:
            raise InvalidData(
                f"the journal {self.journal} is at segment {present[-1]}, but segments up to {shipped} of it were shipped "
                f"before: it was replaced or put back from a copy; start this server under another replica name"
            )

    def _batches(self, sealed: list[int]) -> Iterator[list[int]]:
        """What is to be shipped, some segments at a time."""
        batch: list[int] = []
        size = 0
        for number in sealed:
            if number <= self.through:
                continue
            batch.append(number)
            size += segments.path_of(self.journal, number).stat().st_size
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch
