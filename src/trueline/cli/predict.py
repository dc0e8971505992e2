"""`trueline predict`: score a file of any size with the model that serves, without a server."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trueline.cli.options import Session, with_session
from trueline.cli.output import Output
from trueline.cli.release import VersionNumber
from trueline.errors import InvalidInput, PackagingFailed

if TYPE_CHECKING:  # they bring Arrow and Polars
    from trueline.packaging.executors import Executor
    from trueline.scoring.inputs import Piece
    from trueline.scoring.score import Tally

BAD_ROWS = ("fail", "null", "drop")


@click.command
@click.option(
    "--input",
    "source",
    required=True,
    help="Parquet, CSV or JSON lines: a file, a glob, a folder, a Delta table, s3://….",
)
@click.option(
    "--output", required=True, help="A .parquet, .csv or .jsonl file, or a Delta table (no suffix); may be s3://…."
)
@click.option("--version", type=VersionNumber(), help="Another version than the one that serves.")
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A packaged model's folder; no project is needed.",
)
@click.option("--columns", help="The input's columns to carry over, by comma; '' for none. Default all.")
@click.option(
    "--bad-rows",
    type=click.Choice(BAD_ROWS),
    default="fail",
    show_default=True,
    help="What becomes of a row that is refused: stop there, keep it without a prediction, or leave it out.",
)
@click.option("--overwrite", is_flag=True, help="Replace an output that is there already.")
@click.option("--allow-pickle", is_flag=True, help="With --model: run the pickled object of a folder you trust.")
@with_session
def predict(
    session: Session,
    source: str,
    output: str,
    version: int | None,
    model: Path | None,
    columns: str | None,
    bad_rows: str,
    *,
    overwrite: bool,
    allow_pickle: bool,
) -> None:
    """Score the rows of a file with the model that serves.

    The same contract, executor and answers as a server's, in memory that does not grow with the file. The output has
    the input's columns, `prediction` and `version`, and is whole or not there. No server is needed.

    \b
    Examples:
      trueline predict --input july.parquet --output scored.parquet
      trueline predict --input 's3://lake/july/*.parquet' --output scored --columns flight_id --bad-rows null
      trueline predict --model runs/model --input rows.csv --output scored.csv
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    from trueline.scoring import inputs, outputs
    from trueline.scoring.score import BadRows, Scoring

    if model is not None and version is not None:
        raise InvalidInput("--model names a folder and --version a version of the project; give one of them")
    started = time.perf_counter()
    files = inputs.files_of(source)
    outputs.check(output, source, files, overwrite=overwrite)
    executor, number = _model(session, version, model, allow_pickle=allow_pickle)
    keep = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    with _progress(session.out) as seen:
        scoring = Scoring(executor, version=number, bad_rows=BadRows(bad_rows), keep=keep, seen=seen)
        outputs.write(output, scoring.outputs(inputs.pieces(files, scoring.wanted, scoring.own)))
    seconds = time.perf_counter() - started
    tally = scoring.tally
    if session.out.as_json:
        facts = {
            "input": source,
            "output": output,
            "version": number,
            "executor": executor.kind,
            "rows": tally.rows,
            "refused": tally.refused,
            "first_problem": tally.first_problem,
            "doubtful": dict(sorted(tally.doubtful.items())),
            "seconds": round(seconds, 3),
            "rows_per_second": round(tally.rows / seconds, 1),
        }
        session.out.json(facts)
    else:
        by = f"version {number}" if number is not None else str(model)
        fate = "left out" if bad_rows == "drop" else "without a prediction"
        _tell(session, tally, by=by, fate=fate, seconds=seconds, output=output)


def _tell(session: Session, tally: Tally, *, by: str, fate: str, seconds: float, output: str) -> None:
    scored = f"{tally.rows - tally.refused:,} of {tally.rows:,}" if tally.refused else f"{tally.rows:,}"
    session.out.echo(
        f"{scored} rows scored by {by} in {seconds:.1f} s ({tally.rows / seconds:,.0f} a second): {output}"
    )
    if tally.refused:
        session.out.say(f"refused and {fate}: {_rows(tally.refused)}; the first: {tally.first_problem}")
    for name, count in sorted(tally.doubtful.items()):
        session.out.say(f"column '{name}': values that were not seen in training in {_rows(count)}")


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _model(
    session: Session, version: int | None, model: Path | None, *, allow_pickle: bool
) -> tuple[Executor, int | None]:
    from trueline.packaging import manifest
    from trueline.packaging.executors import load

    if model is not None:
        if manifest.read(model).kind == "python" and not allow_pickle:
            raise PackagingFailed(
                f"{model} holds a pickled Python object, which runs code when it is loaded, and no project vouches for "
                "it; if you trust where it comes from, add --allow-pickle"
            )
        return load(model, None), None
    from trueline.wiring.models import choose

    chosen = choose(session.need_project(), session.state, session.target, version)
    session.out.say(f"scoring with version {chosen.version} of {chosen.project}")
    return load(chosen.folder, chosen.digest), chosen.version


@contextmanager
def _progress(out: Output) -> Iterator[Callable[[Piece], None]]:
    """A bar on stderr while it is a terminal and somebody wants to see it."""
    if out.quiet or out.plain or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    parts = (TextColumn("{task.fields[rows]:,} rows"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task, rows = bar.add_task("", total=1.0, rows=0), 0

        def seen(piece: Piece) -> None:
            nonlocal rows
            rows += piece.table.num_rows
            bar.update(task, completed=piece.done, rows=rows)

        yield seen
