"""The facts of a project, guessed from what lies in its folder. Pure: from what was seen to a guess with its reason.

A guess that is wrong costs a training at most when it is about time or entity, and they are written with their reasons. The
target is different: a model of the wrong column looks just as good, so of two candidates none is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trueline.cli.looking import Function, LoggedModel

if TYPE_CHECKING:
    import polars as pl

TARGET_NAMES = ("target", "label", "y", "class", "outcome", "response", "ground_truth")
STRONG = frozenset(
    [
        "target",
        "label",
        "outcome",
        "price",
        "churn",
        "churned",
        "survived",
        "default",
        "defaulted",
        "fraud",
        "converted",
        "clicked",
        "sold",
        "late",
        "cancelled",
        "canceled",
        "returned",
        "approved",
        "diagnosis",
    ]
)
WEAK = frozenset(
    [
        "sales",
        "revenue",
        "demand",
        "income",
        "salary",
        "rating",
        "score",
        "quality",
        "amount",
        "duration",
        "cost",
        "delay",
    ]
)
TIME_HINTS = (
    "time",
    "timestamp",
    "date",
    "datetime",
    "at",
    "ts",
    "when",
    "day",
    "scheduled",
    "created",
    "event",
    "start",
)
ID_WORDS = frozenset(["id", "uuid", "guid", "key", "number", "no", "nr"])
HELD_BACK = re.compile(
    r"(^|[_\-.])(test|valid|validation|holdout|sample|submission|predictions?|labels?|score[sd]?)([_\-.]|$)",
    re.IGNORECASE,
)
OTHER_DATES = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{8}$|\d{4}/\d{1,2}/\d{1,2}")


@dataclass(frozen=True)
class Guess:
    """One choice and why; `None` chosen means that there is nothing of the kind."""

    chosen: str | None
    why: str


@dataclass(frozen=True)
class Unclear:
    """Several that could be meant, and why none is taken."""

    candidates: tuple[str, ...]
    why: str


Found = Guess | Unclear


@dataclass(frozen=True)
class Column:
    """What a guess looks at in a column."""

    name: str
    holds: str  # number | whole | text | boolean | time
    different: int
    rows: int
    nulls: int
    running: bool = False  # whole numbers that count up by one
    first: str = ""

    @property
    def unique(self) -> bool:
        return self.nulls == 0 and self.different == self.rows

    @property
    def words(self) -> list[str]:
        """The words of its name, however they are joined.

        >>> Column("createdAt", "time", 1, 1, 0).words, Column("sale_price", "number", 1, 1, 0).words
        (['created', 'at'], ['sale', 'price'])
        """
        return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", self.name)]

    @property
    def named_like_an_id(self) -> bool:
        return bool(self.words) and self.words[-1] in ID_WORDS


def columns(frame: pl.DataFrame) -> list[Column]:
    """What the columns of a frame look like, ISO 8601 text counting as times."""
    from trueline.data.timestamps import parse_timestamps

    found = []
    for series in frame.get_columns():
        known = series.drop_nulls()
        kind = series.dtype
        if kind.is_temporal():
            holds = "time"
        elif kind.is_integer():
            holds = "whole"
        elif kind.is_numeric():
            holds = "number"
        elif kind.to_python() is bool:
            holds = "boolean"
        else:
            holds = "time" if kind.to_python() is str and parse_timestamps(series) is not None else "text"
        running = holds == "whole" and known.len() > 1 and bool((known.diff().drop_nulls() == 1).all())
        first = str(known[0]) if known.len() else ""
        found.append(Column(series.name, holds, known.n_unique(), len(series), series.null_count(), running, first))
    return found


def source(files: Sequence[str]) -> Found:
    """Which of the tables is the training data."""
    if not files:
        return Guess(None, "there is no CSV or Parquet file here or in data/")
    if len(files) == 1:
        return Guess(files[0], "the only table here")
    stems = {file.rsplit(".", 2)[0] if file.endswith(".gz") else file.rsplit(".", 1)[0] for file in files}
    if len(stems) == 1:
        best = min(files, key=lambda file: (not file.endswith((".parquet", ".pq")), file))
        return Guess(best, f"the same table is there as {' and '.join(file for file in files if file != best)}")
    names = {file: file.rsplit("/", 1)[-1] for file in files}
    training = [file for file in files if re.search(r"(^|[_\-.])train", names[file], re.IGNORECASE)]
    if len(training) == 1:
        return Guess(training[0], f"its name says train, beside {_some(files, training[0])}")
    rest = [file for file in files if not HELD_BACK.search(names[file])]
    if len(rest) == 1:
        return Guess(rest[0], f"the only table whose name is not of a test set, beside {_some(files, rest[0])}")
    return Unclear(tuple(files), "several tables are here; name one, or a glob of those that belong together")


def _some(files: Sequence[str], chosen: str) -> str:
    others = [file for file in files if file != chosen]
    return ", ".join(others[:3]) + (" and others" if len(others) > 3 else "")


def time(seen: Sequence[Column]) -> Guess:
    """The column that says when a row happened."""
    whole = [column for column in seen if column.holds == "time" and column.nulls == 0]
    if not whole:
        other = [c for c in seen if c.holds == "text" and OTHER_DATES.match(c.first)]
        if other:
            return Guess(
                None, f"{other[0].name} looks like dates ({other[0].first}); write them as 2026-01-31 to use them"
            )
        gaps = [column.name for column in seen if column.holds == "time"]
        return Guess(None, f"{gaps[0]} has gaps" if gaps else "no column of dates was found")
    if len(whole) == 1:
        return Guess(whole[0].name, "the only column of dates")
    named = [column for column in whole if set(column.words) & set(TIME_HINTS)]
    if len(named) == 1:
        return Guess(named[0].name, f"the column of dates whose name says so, of {len(whole)}")
    finest = max(named or whole, key=lambda column: column.different)
    return Guess(finest.name, f"of {len(whole)} columns of dates the one with the most different values")


def entity(seen: Sequence[Column], taken: Sequence[str | None]) -> Guess:
    """The column that says whom or what a row is about."""
    rest = [
        c for c in seen if c.name not in taken and c.holds in ("whole", "text") and c.nulls == 0 and c.different > 1
    ]
    named = [column for column in rest if column.named_like_an_id]
    for column in named:
        if column.unique:
            return Guess(column.name, "named like an identifier, and different in every row")
    if named:
        best = max(named, key=lambda column: column.different)
        return Guess(best.name, f"named like an identifier, with {best.different} different values")
    for column in rest:
        if column.unique and (column.running or column.holds == "text"):
            return Guess(column.name, "it counts the rows" if column.running else "different in every row")
    return Guess(None, "no column looks like an identifier")


def target(seen: Sequence[Column], taken: Sequence[str | None], model: LoggedModel | None, said: str | None) -> Found:
    """The column to predict; `said` is the one that the training code names."""
    able = {column.name: column for column in seen if column.name not in taken and can_be_target(column)}
    if not able:
        return Guess(None, "no column has numbers, or two different values")
    for name, why in _evidence(able, model, said):
        return Guess(name, f"{why}; {values(able[name])}")
    return Unclear(
        tuple(_hinted(able, STRONG) or _hinted(able, WEAK) or able), "several columns could be the one to predict"
    )


def _evidence(able: Mapping[str, Column], model: LoggedModel | None, said: str | None) -> Iterator[tuple[str, str]]:
    """Columns that something points at, the strongest reason first."""
    if said is not None and said in able:
        yield said, "the training code names it"
    if model is not None and model.output is not None and model.output in able:
        yield model.output, f"what the MLflow model in {model.path} predicts"
    left = [name for name in able if model is not None and model.inputs and name not in model.inputs]
    if model is not None and len(left) == 1:
        yield left[0], f"the one column that the MLflow model in {model.path} does not take"
    for known in TARGET_NAMES:
        exact = [name for name in able if name.lower() == known]
        if len(exact) == 1:
            yield exact[0], "its name says so"
    for words in (STRONG, WEAK):
        hinted = _hinted(able, words)
        if len(hinted) == 1:
            yield hinted[0], "its name is like a target's"
        if hinted:
            return
    if len(able) == 1:
        yield next(iter(able)), "the only column that could be"


def _hinted(able: Mapping[str, Column], words: frozenset[str]) -> list[str]:
    return [name for name, column in able.items() if words & set(column.words)]


def can_be_target(column: Column) -> bool:
    """Numbers, or exactly two different values: what trueline can learn."""
    if column.different < 2 or column.running:
        return False
    identifier = column.named_like_an_id and column.unique
    return column.different == 2 or (column.holds in ("number", "whole") and not identifier)


def values(column: Column) -> str:
    """What a column holds, in a few words."""
    if column.different == 2:
        return "two different values, so a classification"
    return f"{column.different} different numbers, so a regression"


def train(functions: Sequence[Function]) -> Guess:
    """The function that trains."""
    if not functions:
        return Guess(None, "no function that trains was found")
    if len(functions) == 1:
        return Guess(functions[0].entry, f"the only function here that trains (line {functions[0].line})")
    best = min(functions, key=_least_likely)
    others = ", ".join(one.entry for one in functions if one is not best)
    return Guess(best.entry, f"taken before {others}")


def _least_likely(one: Function) -> tuple[bool, bool, bool, str]:
    """Pipelines before functions, `fit` before other names, train.py before other files."""
    return (not one.pipeline, one.entry.rpartition(":")[2] != "fit", "train" not in one.entry, one.entry)
