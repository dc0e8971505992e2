"""`trueline runs`, `trueline versions`: the two lists people look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from trueline.cli.options import Session, with_session

_limit = click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")


@click.command
@_limit
@with_session
def runs(session: Session, limit: int) -> None:
    """Trainings, newest first.

    \b
    Examples:
      trueline runs
      trueline runs --limit 5 --json
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    with session.client() as client:
        found = client.runs(limit=limit)
    if session.out.as_json:
        session.out.json(found)
        return
    rows = [
        (r.id, r.state, r.purpose, r.version and f"v{r.version}", r.created_at, r.error or r.reason)
        for r in found.items
    ]
    columns = ("run", "state", "purpose", "version", "created", "reason")
    session.out.table("Runs", columns, rows, empty="no runs yet; start one with `trueline run`")


@click.command
@_limit
@with_session
def versions(session: Session, limit: int) -> None:
    """Model versions, newest first.

    \b
    Examples:
      trueline versions
      trueline versions --json | jq '.items[0]'
    """  # noqa: D301 the escape is click's mark for a paragraph that is not to be wrapped
    with session.client() as client:
        found = client.versions(limit=limit)
    if session.out.as_json:
        session.out.json(found)
        return
    rows = [
        (f"v{v.number}", v.state, v.run, v.executor, _speed(v.parity), _worst(v.parity), v.trained_to, v.metrics)
        for v in found.items
    ]
    columns = (
        "version",
        "state",
        "run",
        "executor",
        "µs/row alone, in 32",
        "worst difference",
        "trained to",
        "metrics",
    )
    session.out.table("Versions", columns, rows, empty="no versions yet; `trueline run` trains the first")


def _speed(parity: Mapping[str, Any]) -> str | None:
    speed = parity.get("speed")
    return f"{speed['row_us']:.3g}, {speed['batch_row_us']:.3g}" if speed else None


def _worst(parity: Mapping[str, Any]) -> str | None:
    return f"{parity['worst']:.1g}" if "worst" in parity else None
