"""The steps of a run as they go, drawn in place on a terminal; elsewhere their events are lines like all others."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # Rich is imported when something is drawn
    from rich.live import Live
    from rich.table import Table

    from trueline.cli.output import Output
    from trueline.web.api.steps import StepView

MARKS = {"waiting": "·", "running": "▸", "succeeded": "✓", "failed": "✗", "dropped": "-"}
STYLES = {"running": "yellow", "succeeded": "green", "failed": "red"}


class Progress:
    """What `drawn` hands out; `drawing` says whether anything is shown at all."""

    def __init__(self, live: Live | None) -> None:
        self._live = live

    @property
    def drawing(self) -> bool:
        return self._live is not None

    def show(self, steps: Sequence[StepView]) -> None:
        if self._live is not None and steps:
            self._live.update(table(steps, datetime.now(UTC)), refresh=True)


@contextmanager
def drawn(out: Output) -> Iterator[Progress]:
    """Draw on stderr while it is a terminal and somebody wants to see it."""
    if out.quiet or out.plain or not sys.stderr.isatty():
        yield Progress(None)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=False) as live:
        yield Progress(live)


def table(steps: Sequence[StepView], now: datetime) -> Table:
    """One line per step: where it stands, for how long, and what is to be said of it."""
    from rich.table import Table

    found = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(4):
        found.add_column(overflow="ellipsis", no_wrap=True)
    for step in steps:
        found.add_row(*row(step, now), style=STYLES.get(step.state))
    return found


def row(step: StepView, now: datetime) -> tuple[str, str, str, Any]:
    """The cells of one step."""
    seconds = ""
    if step.cached_from is None and step.started_at is not None and step.state in {"running", "succeeded", "failed"}:
        seconds = f"{((step.finished_at or now) - step.started_at).total_seconds():.1f} s"
    told = step.error or ("cached" if step.cached_from else "")
    return MARKS.get(step.state, "?"), step.name, seconds, told
