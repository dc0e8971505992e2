"""The control plane's tables. Read this file as the list of what trueline knows.

Every row that is worked on by one process at a time carries a lease (`owner`, `leased_until`, `fence`); every state
column is written by `moves.py` alone. Partial unique indexes keep the invariants that no transition may break.
"""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    TypeDecorator,
    text,
)

from trueline.clock import from_us, to_us
from trueline.domain.blocks import BlockState
from trueline.domain.gates import GateState
from trueline.domain.incidents import IncidentKind, IncidentState
from trueline.domain.releases import ReleaseState
from trueline.domain.runs import Purpose, RunState
from trueline.domain.steps import StepState
from trueline.domain.versions import VersionState


class Moment(TypeDecorator[datetime]):
    """An aware datetime kept as microseconds since the epoch: the same on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 signature is SQLAlchemy's
        return None if value is None else to_us(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 likewise
        return None if value is None else from_us(value)


class Text(TypeDecorator[str]):
    """Text that every database can keep: PostgreSQL has no NUL, and neither has half a character."""

    impl = sqlalchemy.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 likewise
        return None if value is None else value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


class Document(TypeDecorator[Any]):
    """JSON as text: what was put in comes out on every database, a NaN too, which PostgreSQL's own type refuses."""

    impl = sqlalchemy.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 likewise
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 likewise
        return None if value is None else json.loads(value)


class Word(TypeDecorator[StrEnum]):
    """A member of an enum, kept as its text."""

    impl = sqlalchemy.Text
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:  # noqa: ARG002 likewise
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> StrEnum | None:  # noqa: ARG002 likewise
        return None if value is None else self.words(value)


Serial = BigInteger().with_variant(Integer, "sqlite")
"""Ids that the database gives: SQLite counts only in its own INTEGER."""

metadata = MetaData()


def lease() -> tuple[Column[Any], ...]:
    return (
        Column("owner", Text),
        Column("leased_until", Moment),
        Column("fence", Integer, nullable=False, server_default="0"),
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("not_before", Moment),
    )


meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

counters = Table(
    "counters",
    metadata,
    Column("project", Text, primary_key=True),
    Column("noun", Text, primary_key=True),
    Column("last", Integer, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("name", Text, primary_key=True),
    Column("file", Text, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("project", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("origin", Text, nullable=False),
    Column("delta_version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("project", Text, nullable=False),
    Column("state", Word(RunState), nullable=False),
    Column("purpose", Word(Purpose), nullable=False),
    Column("entry", Text, nullable=False),
    Column("params", Document, nullable=False),
    Column("source", Text),
    Column("release", Boolean, nullable=False),
    Column("cut_at", Moment, nullable=False),
    Column("window_from", Moment, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("dataset", Integer),
    Column("key", Text),
    Column("key_parts", Document),
    Column("cached_from", Text),
    Column("tree", Text),
    Column("version", Integer),
    Column("metrics", Document),
    Column("error", Text),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("origin", Document),
    *lease(),
    Index("runs_by_state", "state", "created_at"),
    Index("runs_by_key", "project", "key"),
    Index(
        "one_promotion_per_digest",
        "project",
        "key",
        unique=True,
        sqlite_where=text("purpose = 'promotion' and state in ('queued', 'running', 'succeeded')"),
        postgresql_where=text("purpose = 'promotion' and state in ('queued', 'running', 'succeeded')"),
    ),
)

steps = Table(
    "steps",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", Word(StepState), nullable=False),
    Column("entry", Text, nullable=False),
    Column("needs", Document, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("timeout", Float),
    Column("key", Text),
    Column("key_parts", Document),
    Column("output", Document),
    Column("cached_from", Text),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("error", Text),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("owner", Text),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("not_before", Moment),
    Index("one_step_per_name", "run", "name", unique=True),
    Index("steps_by_key", "project", "key"),
)
"""A step has no lease of its own: whoever holds its run's lease holds it."""

versions = Table(
    "versions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("run", Text, nullable=False),
    Column("state", Word(VersionState), nullable=False),
    Column("digest", Text, nullable=False),
    Column("executor", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("parity", Document, nullable=False),
    Column("metrics", Document, nullable=False),
    Column("summary", Document, nullable=False),
    Column("trained_from", Moment, nullable=False),
    Column("trained_to", Moment, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("waiting", Text),
    Index("one_version_per_number", "project", "number", unique=True),
    Index("one_version_per_run", "run", unique=True),
)

approvals = Table(
    "approvals",
    metadata,
    Column("project", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Who agreed to which version's release, once each."""

gates = Table(
    "gates",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("project", Text, nullable=False),
    Column("state", Word(GateState), nullable=False),
    Column("version", Integer, nullable=False),
    Column("champion", Integer),
    Column("verdict", Text),
    Column("reason", Text),
    Column("evidence", Document),
    Column("vouched", Boolean, nullable=False),
    Column("waived_by", Text),
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
    Column("id", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("project", Text, nullable=False),
    Column("state", Word(ReleaseState), nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("step", Integer, nullable=False),
    Column("vouched", Boolean, nullable=False),
    Column("evidence", Document, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
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
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("state", Word(BlockState), nullable=False),
    Column("day", Text, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("evidence", Document),
    *lease(),
    Index("one_block_per_day", "project", "day", unique=True),
    Index("blocks_by_state", "state"),
)

profiles = Table(
    "profiles",
    metadata,
    Column("project", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("profile", Document, nullable=False),
)
"""What the last weeks of blocks looked like, slice by slice: the pool that a jump is told from. Older ones are pruned."""

monitors = Table(
    "monitors",
    metadata,
    Column("project", Text, primary_key=True),
    Column("state", Document, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("state", Word(IncidentState), nullable=False),
    Column("version", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("advice", Text, nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("closed_reason", Text),
    Column("kind", Word(IncidentKind), nullable=False, server_default="performance"),
    Column("cause", Document),
    Index(
        "one_open_incident_of_a_kind",
        "project",
        "kind",
        unique=True,
        sqlite_where=text("state != 'closed'"),
        postgresql_where=text("state != 'closed'"),
    ),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("project", Text, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("routes", Document, nullable=False),
    Column("acknowledged", Integer, nullable=False),
    Column("champion", Integer),
    Column("champion_since", Moment),
)

cursors = Table(
    "cursors",
    metadata,
    Column("project", Text, primary_key=True),
    Column("replica", Text, primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
)

units = Table(
    "units",
    metadata,
    Column("release", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("request", Text, nullable=False),
)
"""Who was counted already in a release that sticks to a key: one observation each, by the first request."""

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text),
    Column("fence", Integer, nullable=False),
    Column("beat", BigInteger, nullable=False),
)
"""Who leads. The owner's beat counts on as long as it lives; the fence grows with every change of owner."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, unique=True),
    Column("project", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", Document, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Moment),
    Column("error", Text),
    Index("outbox_open", "project", "kind", sqlite_where=text("done = 0"), postgresql_where=text("not done")),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("wall_at", Moment, nullable=False),
    Column("project", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Document, nullable=False),
    Index("events_by_ref", "project", "ref"),
    Index("events_by_kind", "project", "kind", "id"),
)
