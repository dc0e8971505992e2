"""`trueline logs`, `trueline why-cached`: what a run's processes print, and why they ran at all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from trueline.cli.options import Session, with_session

if TYPE_CHECKING:
    from trueline.web.api.steps import LogsView

POLL_SECONDS = 0.3


@click.command
@click.argument("run")
@click.option("--step", default=None, metavar="NAME", help="Of one step of a pipeline only.")
@click.option("--follow", is_flag=True, help="Stay until the run has ended; ends with Ctrl-C.")
@with_session
def logs(session: Session, run: str, step: str | None, *, follow: bool) -> None:
    """What a run has printed, live while it runs.

    Lines of a pipeline's steps begin with the step's name. With --json one line is one object.

    \b
    Examples:
      trueline logs run-7 --follow
      trueline logs run-7 --step prepare
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    after = None
    with session.client() as client:
        while True:
            found = client.logs(run, step=step, after=after)
            _show(session, found, named=step is None)
            after = found.next
            if found.ended or not (found.items or follow):
                return
            if not found.items:
                time.sleep(POLL_SECONDS)


def _show(session: Session, found: LogsView, *, named: bool) -> None:
    for chunk in found.items:
        for line in chunk.text.splitlines():
            if session.out.as_json:
                session.out.json({"step": chunk.step, "line": line})
            else:
                name = session.out.bold(f"{chunk.step} │ ") if named and chunk.step is not None else ""
                session.out.echo(f"{name}{line}")


@click.command
@click.argument("id")
@with_session
def why_cached(session: Session, id: str) -> None:  # noqa: A002 the word users see
    """Why a run or a step was done again, or was not.

    ID is a run id or a step id. A key is of code, parameters, inputs and environment; it is held against the nearest
    earlier one.

    \b
    Examples:
      trueline why-cached run-7
      trueline why-cached run-7:prepare --json
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    with session.client() as client:
        found = client.why_cached(id)
    if session.out.as_json:
        session.out.json(found)
        return
    session.out.echo(f"{session.out.bold(found.id)} {found.sentence}")
    for step in found.steps:
        session.out.echo(f"└ {step.id} {step.sentence}")
