"""The control plane's tables. Read this file as the list of what trueline knows.

Every row that is worked on by one process at a time carries a lease (`owner`, `leased_until`, `fence`); every state
column is written by `moves.py` alone. Partial unique indexes keep the invariants that no transition may break.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

from trueline.clock import from_us, to_us
from trueline.domain.blocks import BlockState
from trueline.domain.gates import GateState
from trueline.domain.incidents import IncidentState
from trueline.domain.releases import ReleaseState
from trueline.domain.runs import Purpose, RunState
from trueline.domain.versions import VersionState


class Moment(TypeDecorator[datetime]):
    """An aware datetime kept as microseconds since the epoch: the same on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 signature is SQLAlchemy's
        return None if value is None else to_us(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 likewise
        return None if value is None else from_us(value)


class Word(TypeDecorator[StrEnum]):
    """A member of an enum, kept as its text."""

    impl = String
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__(32)
        self.words = words

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:  # noqa: ARG002 likewise
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> StrEnum | None:  # noqa: ARG002 likewise
        return None if value is None else self.words(value)


metadata = MetaData()


def lease() -> tuple[Column[Any], ...]:
    return (
        Column("owner", String(64)),
        Column("leased_until", Moment),
        Column("fence", Integer, nullable=False, server_default="0"),
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("not_before", Moment),
    )


meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

counters = Table(
    "counters",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("noun", String(32), primary_key=True),
    Column("last", Integer, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("file", Text, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String(128), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("origin", String(16), nullable=False),
    Column("delta_version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("project", String(128), nullable=False),
    Column("state", Word(RunState), nullable=False),
    Column("purpose", Word(Purpose), nullable=False),
    Column("entry", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("source", Text),
    Column("release", Boolean, nullable=False),
    Column("cut_at", Moment, nullable=False),
    Column("window_from", Moment, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("dataset", Integer),
    Column("key", String(128)),
    Column("key_parts", JSON),
    Column("cached_from", String(64)),
    Column("tree", String(128)),
    Column("version", Integer),
    Column("metrics", JSON),
    Column("error", Text),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    *lease(),
    Index("runs_by_state", "state", "created_at"),
    Index("runs_by_key", "project", "key"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", String(160), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("number", Integer, nullable=False),
    Column("run", String(64), nullable=False),
    Column("state", Word(VersionState), nullable=False),
    Column("digest", String(128), nullable=False),
    Column("executor", String(32), nullable=False),
    Column("task", String(32), nullable=False),
    Column("parity", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("trained_from", Moment, nullable=False),
    Column("trained_to", Moment, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("one_version_per_number", "project", "number", unique=True),
    Index("one_version_per_run", "run", unique=True),
)

gates = Table(
    "gates",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("project", String(128), nullable=False),
    Column("state", Word(GateState), nullable=False),
    Column("version", Integer, nullable=False),
    Column("champion", Integer),
    Column("verdict", String(16)),
    Column("reason", Text),
    Column("evidence", JSON),
    Column("vouched", Boolean, nullable=False),
    Column("waived_by", String(128)),
    Column("waiver", Text),
    Column("created_at", Moment, nullable=False),
    Column("decided_at", Moment),
    *lease(),
    Index(
        "one_open_gate_per_version",
        "project",
        "version",
        unique=True,
        sqlite_where=text("state != 'decided'"),
        postgresql_where=text("state != 'decided'"),
    ),
)

releases = Table(
    "releases",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("project", String(128), nullable=False),
    Column("state", Word(ReleaseState), nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("step", Integer, nullable=False),
    Column("vouched", Boolean, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("stage_since", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("requests_answered", Integer, nullable=False, server_default="0"),
    Column("rollback_ms", Float),
    Index(
        "one_live_release",
        "project",
        unique=True,
        sqlite_where=text("state in ('shadow', 'canary', 'promoted')"),
        postgresql_where=text("state in ('shadow', 'canary', 'promoted')"),
    ),
)

blocks = Table(
    "blocks",
    metadata,
    Column("id", String(160), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("state", Word(BlockState), nullable=False),
    Column("day", String(10), nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("evidence", JSON),
    *lease(),
    Index("one_block_per_day", "project", "day", unique=True),
    Index("blocks_by_state", "state"),
)

monitors = Table(
    "monitors",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("state", JSON, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("state", Word(IncidentState), nullable=False),
    Column("version", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("advice", String(32), nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("closed_reason", Text),
    Index(
        "one_open_incident",
        "project",
        unique=True,
        sqlite_where=text("state != 'closed'"),
        postgresql_where=text("state != 'closed'"),
    ),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("routes", JSON, nullable=False),
    Column("acknowledged", Integer, nullable=False),
    Column("champion", Integer),
    Column("champion_since", Moment),
)

cursors = Table(
    "cursors",
    metadata,
    Column("replica", String(64), primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
)

units = Table(
    "units",
    metadata,
    Column("release", String(64), primary_key=True),
    Column("unit", String(256), primary_key=True),
    Column("request", String(128), nullable=False),
)
"""Who was counted already in a release that sticks to a key: one observation each, by the first request."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("key", String(160), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Moment),
    Column("error", Text),
    Index("outbox_open", "kind", sqlite_where=text("done = 0"), postgresql_where=text("not done")),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("wall_at", Moment, nullable=False),
    Column("project", String(128), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("ref", String(160), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Index("events_by_ref", "project", "ref"),
)
