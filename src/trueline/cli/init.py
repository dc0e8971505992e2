"""`trueline init`: what lies in a folder becomes a project, each guess with its reason."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import click

from trueline.cli import looking, starter
from trueline.cli.facts import Asked, Facts, Looked
from trueline.cli.options import Session, without_target
from trueline.errors import Conflict, Unavailable


@click.command
@click.option("--source", help="A CSV or Parquet file; default the one that is here.")
@click.option("--target", help="The column to predict.")
@click.option("--time", help="The column that says when a row happened.")
@click.option("--entity", help="The column that says whom or what a row is about.")
@click.option("--train", metavar="FILE:FUNCTION", help="The function that trains; default the one that is here.")
@click.option("--name", help="The project's name; default the folder's.")
@without_target
def init(
    session: Session,
    *,
    source: str | None,
    target: str | None,
    time: str | None,
    entity: str | None,
    train: str | None,
    name: str | None,
) -> None:
    """Write a project file for what lies here.

    Looks for a table, a training function and an MLflow model, and writes what it found with its reasons. What you say
    wins. Where several could be meant it asks, or refuses when nobody can be asked. Writes a first model where no
    training function is found. Never overwrites anything.

    \b
    Examples:
      trueline init
      trueline init --source flights.parquet --target late --time scheduled --entity flight_id
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    file = session.project
    root = file.absolute().parent
    if file.exists():
        raise Conflict(
            f"{file} is there already and stays as it is; remove it to start anew, or name another with --project"
        )
    asking = sys.stdin.isatty() and not session.out.as_json and not session.out.quiet
    looked = Looked(root, asking, *looking.functions(root), looking.logged_models(root))
    facts = Facts.find(looked, Asked(source and relative(Path(source), file), target, time, entity, train))
    text = starter.project_file(name or project_name(root), facts.data(), facts.rest())
    written = [write_new(file, text)]
    model = root / facts.train.partition(":")[0]
    if not model.exists():
        written.append(write_new(model, facts.model()))
    if session.out.as_json:
        session.out.json(
            {
                "written": [str(path) for path in written],
                "columns": facts.names,
                "guesses": facts.guesses(),
                "notes": looked.notes,
            }
        )
        return
    for path in written:
        session.out.echo(f"wrote {path}")
    for note in looked.notes:
        session.out.say(note)
    session.out.say("next: look at them, then `trueline run` trains, judges and releases; `trueline up` serves")


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
