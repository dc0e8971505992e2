"""The data contract: what a column may hold, checked by the same rules at ingest, in training and at serving."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    integer = "integer"
    float32 = "float32"
    float64 = "float64"
    string = "string"
    boolean = "boolean"
    datetime = "datetime"


class Role(StrEnum):
    feature = "feature"
    target = "target"
    time = "time"
    entity = "entity"


@dataclass(frozen=True)
class Column:
    name: str
    kind: Kind
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    unique: bool = False
    personal: bool = False
    role: Role = Role.feature


@dataclass(frozen=True)
class Contract:
    columns: tuple[Column, ...]
    unknown_columns: str = "warn"  # warn | forbid | ignore
