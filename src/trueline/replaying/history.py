"""A labelled history as a stream: what was known before the replay begins, then a request and a label for each row."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from trueline.data.sources import read_source
from trueline.domain.project import Engines, Project
from trueline.errors import InvalidData, InvalidInput

STATE = ".trueline"
SHARE = 0.3
"""Of the history that is known at the start, unless somebody says a day."""

LEAST_DAYS = 3
SUFFIXES = (".csv", ".parquet", ".pq")


@dataclass(frozen=True)
class History:
    """Rows in the order of their time, and the moment at which the replay begins."""

    frame: pl.DataFrame
    time: str
    target: str
    begins: datetime

    @property
    def known(self) -> pl.DataFrame:
        return self.frame.filter(pl.col(self.time) < self.begins)

    @property
    def lived(self) -> pl.DataFrame:
        """The rows that become requests; those without a target get no label."""
        return self.frame.filter(pl.col(self.time) >= self.begins)

    @property
    def ends(self) -> datetime:
        last: Any = self.frame[self.time].max()
        return _aware(last)

    def labels(self, rows: pl.DataFrame) -> npt.NDArray[np.float64]:
        """The target as labels speak it: a number, or of two words 1 for the later one; NaN where it is not known."""
        values = rows[self.target]
        if values.dtype == pl.String:
            values = values == self.frame[self.target].max()
        return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()

    def ticks(self, tick: timedelta) -> Iterator[tuple[datetime, pl.DataFrame]]:
        """The moments of the replay, each with the rows that came in since the one before."""
        rows, now, at = self.lived, self.begins, 0
        moments = rows[self.time]
        while at < rows.height:
            now += tick
            upto = int(moments.search_sorted(now, side="left"))
            yield now, rows[at:upto]
            at = upto


def read(project: Project, root: Path, begins: datetime | None, until: datetime | None = None) -> History:
    """The project's own source, cut where the replay begins.

    Raises:
        InvalidInput: the project names no time column, or nothing is left on one side of the cut.
    """
    time = project.data.time
    if time is None:
        raise InvalidInput(
            "a replay needs to know when each row happened; name the column as data.time in trueline.yaml"
        )
    frame = read_source(root, project.data.source)
    for role, name in (("time", time), ("target", project.data.target)):
        if name not in frame.columns:
            raise InvalidData(f"the source has no column {name!r}, which trueline.yaml names as {role}")
    if not isinstance(frame.schema[time], pl.Datetime):
        raise InvalidData(
            f"the column {time!r} holds {frame.schema[time]}, not times; write them as 2026-03-01T12:00:00"
        )
    frame = frame.filter(pl.col(time).is_not_null()).sort(time, maintain_order=True)
    if not _zoned(frame, time):
        frame = frame.with_columns(pl.col(time).dt.replace_time_zone("UTC"))
    if until is not None:
        frame = frame.filter(pl.col(time) < until)
    first, last = (_aware(edge) for edge in (frame[time].min(), frame[time].max()))
    cut = begins or _midnight(first + SHARE * (last - first))
    found = History(frame, time, project.data.target, cut)
    if not found.known.height or not found.lived.height or last - cut < timedelta(days=LEAST_DAYS):
        raise InvalidInput(
            f"the history runs from {first:%Y-%m-%d} to {last:%Y-%m-%d}; a replay from {cut:%Y-%m-%d} needs rows before it "
            f"and at least {LEAST_DAYS} days after it: choose another day with --begin"
        )
    return found


def settle(project: Project, root: Path, history: History, folder: Path) -> Path:
    """A copy of the project in `folder` that knows the history's first part only; the path of its project file."""
    source = Path(project.data.source)
    if source.is_absolute() or source.suffix not in SUFFIXES or not (root / source).is_file():
        raise InvalidInput(
            f"a replay needs data.source to be one CSV or Parquet file beside the project file, not {project.data.source}"
        )
    big = {str((root / source).resolve())}

    def left_out(place: str, names: list[str]) -> set[str]:
        here = Path(place)
        hidden = {name for name in names if name.startswith(".") or name == "__pycache__"}
        return hidden | {name for name in names if str((here / name).resolve()) in big}

    shutil.copytree(root, folder, ignore=left_out, dirs_exist_ok=True)
    place = folder / source
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".csv":
        history.known.write_csv(place)
    else:
        history.known.write_parquet(place)
    return place


def keep_to_itself(project_file: Path) -> None:
    """Take database, tracking and storage out of a copied project file: others work there, and at another time."""
    facts = yaml.safe_load(project_file.read_text())
    for place in (facts, *(facts.get("targets") or {}).values()):
        for engine in fields(Engines):
            (place or {}).pop(engine.name, None)
    project_file.write_text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True))


def plain(value: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(value, datetime):
        return _aware(value).isoformat()
    if isinstance(value, float) and value != value:  # noqa: PLR0124 NaN has no JSON
        return None
    return value


def _zoned(frame: pl.DataFrame, time: str) -> bool:
    kind = frame.schema[time]
    return isinstance(kind, pl.Datetime) and kind.time_zone is not None


def _aware(moment: Any) -> datetime:
    if not isinstance(moment, datetime):
        raise InvalidData("the history has no rows with a time in the span asked for; see --begin and --until")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
