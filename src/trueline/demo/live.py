"""The year as it goes by, on standard error: a live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trueline.demo.flights import END, START
from trueline.demo.ledger import Ledger
from trueline.web.api.events import EventView

SHOWN = 14  # events on the screen
BARS = "▁▂▃▄▅▆▇█"
WEEKS = 48
RECENT = timedelta(days=14)
TOLD = {
    "release.promote": ("promoted", "bold green"),
    "release.start_canary": ("canary", "cyan"),
    "release.start_shadow": ("shadow", "cyan"),
    "release.roll_back": ("rolled back", "bold red"),
    "release.restored": ("restored", "red"),
    "incident.open": ("alert", "bold red"),
    "incident.advise": ("advice", "bold yellow"),
    "incident.hold": ("held", "yellow"),
    "incident.close": ("closed", "green"),
    "run.quarantine": ("left out", "yellow"),
    "gate.decide": ("gate", "white"),
    "gate.waive": ("waived", "bold yellow"),
    "run.fail": ("failed", "red"),
    "run.create": ("training", "dim"),
}
"""The events worth a line in the story, with the word and the colour for each; the log has all of them."""


def sparkline(values: Sequence[float], top: float) -> str:
    """Bars from zero to `top`; a gap where nothing is known.

    >>> sparkline([0.0, 4.0, float("nan"), 8.0], 8.0)
    '▁▅ █'
    """
    scale = (len(BARS) - 1) / top if top > 0 else 0.0
    return "".join(" " if value != value else BARS[min(len(BARS) - 1, round(value * scale))] for value in values)  # noqa: PLR0124 NaN


def line(event: EventView) -> Text:
    """One event of the story: when, what, why."""
    word, style = TOLD.get(event.kind, (event.kind, "white"))
    if event.kind == "gate.decide":
        style = {"pass": "green", "fail": "bold red"}.get(str(event.detail.get("verdict")), "yellow")
    version = event.detail.get("version")
    which = f"v{version}" if version is not None else event.ref
    return Text.assemble(
        (f"{event.at:%d %b} ", "dim"), (f"{word:<12}", style), (f"{which:<11}", "bold"), event.reason.replace("\n", " ")
    )


class Lines:
    """A watcher for logs and pipes: each event a line, each month its figures."""

    def __init__(self, console: Console, ledger: Ledger) -> None:
        self._console = console
        self._ledger = ledger
        self._month = START.month

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def happened(self, event: EventView) -> None:
        if event.kind in TOLD:
            self._console.print(line(event), soft_wrap=True, highlight=False)

    def ticked(self, now: datetime) -> None:
        if now.month == self._month or now > END:
            return
        since = START.replace(month=self._month)
        mae = {policy: self._ledger.mae(policy, since, now) for policy in ("trueline", "frozen")}
        told = f"{since:%B}: off by {mae['trueline']:.1f} min on average; January's model by {mae['frozen']:.1f}"
        self._console.print(Text(told, style="bold"), soft_wrap=True, highlight=False)
        self._month = now.month


class Screen(Lines):
    """A watcher for a terminal: progress, both errors as they move, and the last events with their reasons."""

    def __init__(self, console: Console, ledger: Ledger) -> None:
        super().__init__(console, ledger)
        self._now = START
        self._drawn = START
        self._told: deque[Text] = deque(maxlen=SHOWN)
        self._figures: RenderableType = Text("")
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def happened(self, event: EventView) -> None:
        if event.kind in TOLD:
            told = line(event)
            told.no_wrap, told.overflow = True, "ellipsis"
            self._told.append(told)

    def ticked(self, now: datetime) -> None:
        self._now = now
        if now - self._drawn >= timedelta(hours=12):
            self._drawn = now
            self._figures = self._errors()

    def _errors(self) -> RenderableType:
        """Weekly errors so far, and the mean of the last two weeks."""
        table = Table.grid(padding=(0, 2))
        weekly = {policy: self._ledger.series(policy)[1] for policy in ("frozen", "trueline")}
        top = float(np.nanmax(weekly["frozen"]))
        weeks = (self._now - START) // timedelta(days=7) + 1
        for policy, name, style in (("frozen", "January's model", "yellow"), ("trueline", "trueline", "green")):
            recent = self._ledger.mae(policy, self._now - RECENT, self._now)
            bars = sparkline([float(value) for value in weekly[policy][:weeks]], top)
            table.add_row(
                Text(name, style=style), Text(f"{bars:<{WEEKS}}", style=style), Text(f"{recent:5.1f} min", style="bold")
            )
        return table

    def _render(self) -> RenderableType:
        whole, done = (END - START).total_seconds(), (min(self._now, END) - START).total_seconds()
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(width=12)
        head.add_column(ratio=1)
        head.add_column(justify="right", width=16)
        answered = f"{len(self._ledger.prediction_ids):,} flights"
        head.add_row(
            Text(f"{self._now:%d %B}", style="bold"),
            ProgressBar(total=whole, completed=done),
            Text(answered, style="dim"),
        )
        story = list(self._told) or [Text("starting …", style="dim")]
        return Group(
            head,
            Panel(self._figures, title="error, week by week"),
            Panel(Group(*story), title="what happened, and why"),
        )


def watcher(ledger: Ledger) -> Lines:
    """The live view where there is a terminal to show it on."""
    console = Console(file=sys.stderr)
    return Screen(console, ledger) if console.is_terminal else Lines(console, ledger)
