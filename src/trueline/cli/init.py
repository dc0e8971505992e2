"""`trueline init`: four facts about a data file become a project."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trueline.cli import starter
from trueline.cli.options import Session, with_session
from trueline.errors import Conflict, InvalidData, InvalidInput, Unavailable

if TYPE_CHECKING:
    import polars as pl

FEW = 20
"""A whole-numbered target with at most so many values is taken for classes."""


@dataclass(frozen=True)
class Facts:
    """What the caller said of the data."""

    source: Path
    target: str
    time: str | None
    entity: str | None


@click.command
@click.option("--source", required=True, type=click.Path(path_type=Path), help="A CSV or Parquet file.")
@click.option("--target", required=True, help="The column to predict.")
@click.option("--time", default=None, help="The column that says when a row happened.")
@click.option("--entity", default=None, help="The column that identifies a row's subject.")
@click.option("--train", default="model.py:fit", show_default=True, help="The fit function, as file:function.")
@click.option("--name", default=None, help="The project's name; default the folder's.")
@with_session
def init(
    session: Session, *, source: Path, target: str, time: str | None, entity: str | None, train: str, name: str | None
) -> None:
    """Write a project file for a data file.

    Also writes a first model where the fit function's file does not exist. Never overwrites anything.

    \b
    Examples:
      trueline init --source data.csv --target price
      trueline init --source flights.parquet --target late --time scheduled --entity flight_id
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    file = session.project
    facts = Facts(source, target, time, entity)
    frame = check(facts)
    code, _, function = train.partition(":")
    if not code.endswith(".py") or not function.isidentifier():
        raise InvalidInput(f"--train {train!r} should read file.py:function, for example model.py:fit")
    text = starter.project_file(
        project=name or project_name(file.absolute().parent),
        source=relative(source, file),
        target=target,
        time=time,
        entity=entity,
        train=train,
    )
    written = [write_new(file, text)]
    model = file.parent / code
    if not model.exists():
        left_out = [column for column in (time, entity) if column]
        classes = is_classification(frame, target)
        written.append(write_new(model, starter.model_file(target=target, leave_out=left_out, classification=classes)))
    if session.out.as_json:
        session.out.json({"written": [str(path) for path in written], "columns": frame.columns})
        return
    for path in written:
        session.out.echo(f"wrote {path}")
    session.out.say("next: look at them, then `trueline run` trains, judges and releases; `trueline up` serves")


def check(facts: Facts) -> pl.DataFrame:
    """The first rows of the source, in which every named column must be."""
    import polars as pl

    if not facts.source.is_file():
        raise InvalidData(f"there is no file {facts.source}; --source takes a CSV or Parquet file")
    kind = Path(facts.source.name.removesuffix(".gz")).suffix.lower()
    if kind not in {".csv", ".parquet", ".pq"}:
        raise InvalidData(f"{facts.source} is neither .csv nor .parquet, which are what trueline reads so far")
    try:
        read = pl.read_csv if kind == ".csv" else pl.read_parquet
        frame = read(facts.source, n_rows=10_000)
    except (pl.exceptions.PolarsError, OSError) as problem:
        reason = str(problem).splitlines()[0]
        raise InvalidData(f"{facts.source} cannot be read as {kind[1:]}: {reason}") from problem
    for option, column in (("target", facts.target), ("time", facts.time), ("entity", facts.entity)):
        if column is not None and column not in frame.columns:
            there = ", ".join(frame.columns)
            raise InvalidData(f"--{option}: there is no column {column!r} in {facts.source}; it has {there}")
    if frame.is_empty():
        raise InvalidData(f"{facts.source} has no rows: there is nothing to learn from")
    return frame


def is_classification(frame: pl.DataFrame, target: str) -> bool:
    """Whether the target looks like classes: words, booleans, or few whole numbers."""
    column = frame[target]
    if column.dtype.is_float():
        return False
    return not column.dtype.is_integer() or column.n_unique() <= FEW


def project_name(folder: Path) -> str:
    """A folder's name as a project's: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "project"


def relative(source: Path, file: Path) -> str:
    """The source as seen from the project file, which is how the project reads it."""
    here = file.absolute().parent
    there = source.absolute()
    return there.relative_to(here).as_posix() if there.is_relative_to(here) else str(there)


def write_new(path: Path, text: str) -> Path:
    """Write a file that must not be there yet."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError as there:
        raise Conflict(f"{path} is there already and stays as it is; remove it to start anew") from there
    except OSError as problem:
        raise Unavailable(f"{path} cannot be written ({problem.strerror})") from problem
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return path
