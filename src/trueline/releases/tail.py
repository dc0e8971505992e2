"""Reading routed requests from the journals' tails, each exactly once.

Files are read outside the transaction, from cursors kept in the database; the transaction that stores what they gave
moves the cursors on, and is refused when somebody moved them meanwhile. So a crash in between reads the same records
again and counts them once. Requests pinned to a version by the caller are not evidence, nor are those of another
release. With `stick_to` a user counts once per release, by the first request: rows in `units` remember who was counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from trueline.domain.routes import Arm
from trueline.errors import Conflict
from trueline.journal.records import CrashRecord, PredictionRecord, Record, ShadowRecord
from trueline.journal.segments import Cursor, read
from trueline.settings import StateFolder
from trueline.store import tables, writes
from trueline.store.engine import Tx

LIMIT = 20_000
"""Records taken in one round; what is left waits for the next."""


@dataclass(frozen=True)
class Observed:
    """One unit of evidence: which arm served it, the canary's known share at the time, and whether it went badly."""

    canary: bool
    share: float
    bad: bool


@dataclass(frozen=True)
class Tail:
    records: tuple[Record, ...]
    before: dict[str, Cursor]
    after: dict[str, Cursor]

    @property
    def more(self) -> bool:
        return len(self.records) >= LIMIT


def cursors(tx: Tx, project: str) -> dict[str, Cursor]:
    """How far each replica's journal was read."""
    box = tables.cursors
    found = tx.execute(select(box).where(box.c.project == project))
    return {row.replica: Cursor(row.segment, row.position) for row in found}


def read_tail(folder: StateFolder, before: dict[str, Cursor]) -> Tail:
    """What the journals hold after those cursors."""
    records: list[Record] = []
    after = dict(before)
    for journal in sorted(folder.journals.iterdir()) if folder.journals.exists() else ():
        try:
            for record, cursor in read(journal, before.get(journal.name, Cursor())):
                after[journal.name] = cursor
                records.append(record)
                if len(records) >= LIMIT:
                    return Tail(tuple(records), before, after)
        except FileNotFoundError:
            continue  # a shipped segment was deleted while it was being opened; the next round goes on behind it
    return Tail(tuple(records), before, after)


def skip(folder: StateFolder, before: dict[str, Cursor]) -> Tail:
    """To the end of what is written now, without a look at it."""
    after = before
    while (found := read_tail(folder, after)).records:
        after = found.after
    return Tail((), before, after)


def take(tx: Tx, project: str, tail: Tail) -> None:
    """Move the cursors past a tail, in the transaction that stores what it gave."""
    if cursors(tx, project) != tail.before:
        raise Conflict("another control process read the journals meanwhile; this reading changes nothing")
    for replica, cursor in tail.after.items():
        if cursor != tail.before.get(replica):
            values = {"segment": cursor.segment, "position": cursor.offset}
            writes.put(tx, tables.cursors, {"project": project, "replica": replica, **values})


@dataclass(frozen=True)
class Arms:
    """Which versions play which part in a release, and the canary's share now."""

    release: str
    version: int
    previous: int | None
    share: float


def observations(tx: Tx, tail: Tail, arms: Arms, *, sticky: bool) -> list[Observed]:
    """What a tail says of one release; marks users as counted when the release sticks to a key."""
    found = (_observe(record, arms) for record in tail.records)
    return [
        seen
        for seen, unit, request in (one for one in found if one)
        if not sticky or _first(tx, arms.release, unit, request)
    ]


def trials(tail: Tail, arms: Arms) -> tuple[int, int]:
    """How often the version scored a request that the other arm answered, and how often that went badly.

    The same artefact in the same server on the same kind of request: it says nothing about the arms' difference, for
    only one of them is seen twice, but as much about the version's own rate as a request of its own.
    """
    mine = [
        record.outcome != "answered"
        for record in tail.records
        if isinstance(record, ShadowRecord) and record.release == arms.release and record.version == arms.version
    ]
    return len(mine), sum(mine)


def _observe(record: Record, arms: Arms) -> tuple[Observed, str, str] | None:
    if isinstance(record, CrashRecord):
        # In flight when its process died: a bad event of whichever arm's version was being scored.
        if record.version not in (arms.version, arms.previous):
            return None
        return Observed(record.version == arms.version, arms.share, bad=True), f"crash {record.received_us}", ""
    if not isinstance(record, PredictionRecord) or record.release != arms.release:
        return None
    if record.arm not in (Arm.champion, Arm.canary) or not 0 < record.weight < 1:
        return None
    canary = record.arm == Arm.canary
    share = round(
        record.weight if canary else 1 - record.weight, 9
    )  # 1 − 0.9 is not 0.1, and shares are counted by value
    return Observed(canary, share, record.outcome != "answered"), record.unit, record.request_id


def _first(tx: Tx, release: str, unit: str, request: str) -> bool:
    return writes.add(tx, tables.units, {"release": release, "unit": unit[:256], "request": request})
