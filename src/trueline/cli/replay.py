"""`trueline replay`: what the loop would have made of the data you already have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from trueline.cli.open import entrance
from trueline.cli.options import Session, with_session
from trueline.cli.output import cell
from trueline.security import tokens
from trueline.settings import StateFolder

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from trueline.replaying.history import History
    from trueline.replaying.outcome import Outcome
    from trueline.web.api.events import EventView

TOLD = {
    "release.start_canary",
    "release.promote",
    "release.roll_back",
    "release.abort",
    "incident.open",
    "incident.close",
    "gate.decide",
    "run.fail",
}
"""The events worth a line while a replay goes by."""

_DAY = click.DateTime(["%Y-%m-%d"])


class Span(click.ParamType[timedelta]):
    """`6h`, `2d`."""

    name = "SPAN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        units = {"m": "minutes", "h": "hours", "d": "days"}
        number, unit = str(value)[:-1], str(value)[-1:]
        try:
            span = timedelta(**{units[unit]: float(number)})
        except (KeyError, ValueError):
            self.fail(f"{value!r} is not a span of time such as 6h or 2d", param, ctx)
        if span <= timedelta(0):
            self.fail(f"{value!r} must be longer than nothing", param, ctx)
        return span


@click.command
@click.option(
    "--begin", type=_DAY, default=None, help="The first day lived through; default after 30 % of what is replayed."
)
@click.option("--until", type=_DAY, default=None, help="Stop before this day.")
@click.option("--tick", type=Span(), default="3h", show_default=True, help="Between two looks of the controllers.")
@click.option("--label-delay", type=Span(), default=None, help="From a prediction to its label; default as expected.")
@click.option("--keep", is_flag=True, help="Leave the server running and its folder in place.")
@with_session
def replay(
    session: Session,
    *,
    begin: datetime | None,
    until: datetime | None,
    tick: timedelta,
    label_delay: timedelta | None,
    keep: bool,
) -> None:
    """Live through your own history: what the loop would have done.

    Trains on the first part of data.source, then sends the rest as requests, row by row in the order of its time, with
    its labels a while after, and tells when the loop would have retrained, released, rolled back or paged. It works on
    a copy of the project: nothing of yours is changed.

    \b
    Examples:
      trueline replay
      trueline replay --begin 2026-03-01 --label-delay 6h
      trueline replay --keep
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    from trueline.replaying.program import replay as live

    outcome, kept = live(
        session.need_project(),
        session.target,
        lambda history: _watching(session, history),
        begins=_utc(begin),
        until=_utc(until),
        tick=tick,
        delay=label_delay,
        keep=keep,
    )
    if session.out.as_json:
        session.out.json({"outcome": outcome, "kept": kept})
    else:
        _show(session, outcome)
    if kept is not None:
        link = entrance(kept.page, tokens.ensure(StateFolder(kept.folder / ".trueline").token))
        session.out.say(f"{link} goes on; its folder is {kept.folder}; end it with: kill {kept.pid}")


def _utc(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=UTC)


class _Watcher:
    """A progress bar over event time, with a line for what is worth one."""

    def __init__(self, session: Session, history: History, progress: Progress, task: TaskID) -> None:
        self._session = session
        self._history = history
        self._progress = progress
        self._task = task

    def ticked(self, now: datetime) -> None:
        done = (now - self._history.begins).total_seconds()
        self._progress.update(self._task, completed=done, description=f"{now:%Y-%m-%d}")

    def happened(self, event: EventView) -> None:
        if event.kind in TOLD and not self._session.out.quiet:
            self._progress.console.print(f"{event.at:%Y-%m-%d}  {event.kind:<18} {event.reason}", soft_wrap=True)


@contextmanager
def _watching(session: Session, history: History) -> Iterator[_Watcher]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    known, lived = history.known.height, history.lived.height
    session.out.say(
        f"trains on {known} rows before {history.begins:%Y-%m-%d}, then lives through {lived} up to {history.ends:%Y-%m-%d}"
    )
    console = Console(file=sys.stderr, markup=False, highlight=False, no_color=session.out.plain)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=session.out.quiet or not console.is_terminal) as progress:
        span = (history.ends - history.begins).total_seconds()
        yield _Watcher(session, history, progress, progress.add_task(f"{history.begins:%Y-%m-%d}", total=span))


def _compared(ratio: float) -> str:
    """How a loss compares with that of doing nothing.

    >>> _compared(0.538), _compared(1.0), _compared(1.2)
    ('46% less', 'the same', '20% more')
    """
    if abs(ratio - 1) < 0.005:
        return "the same"
    return f"{abs(1 - ratio):.0%} {'less' if ratio < 1 else 'more'}"


def _show(session: Session, outcome: Outcome) -> None:
    rows = [
        (one.name, one.rows, one.frozen, one.served, one.promotions or "", one.incidents or "")
        for one in outcome.months
    ]
    columns = ("month", "rows", "never retrained", "trueline", "promotions", "alerts")
    session.out.table(f"{outcome.loss} by month", columns, rows, empty="no labelled row was served")
    if outcome.frozen > 0:
        session.out.echo(
            f"in all {cell(outcome.served)} with trueline, {cell(outcome.frozen)} had the first model been kept: "
            + _compared(outcome.served / outcome.frozen)
        )
    first = outcome.first_retraining
    if first is None:
        session.out.echo("no retrained model went out: the evidence never showed that a fresher one is better")
    else:
        session.out.echo(f"the first retrained model went out on {first['at']}: {first['reason']}")
    if outcome.refused:
        session.out.echo(f"{outcome.refused} rows were refused by the contract or the server")
