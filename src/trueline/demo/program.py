"""`trueline demo`: start a server, live through the year, show what it came to."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from trueline.client import Client
from trueline.demo import compare, flights, report
from trueline.demo.flights import END, SAMPLE, SEED, Flights
from trueline.demo.ledger import POLICIES, Ledger
from trueline.demo.live import watcher
from trueline.demo.loop import TICK, Replay
from trueline.demo.planted import FEED
from trueline.demo.summary import Stopped, Year
from trueline.demo.work import prepare, project_folder
from trueline.errors import TruelineError
from trueline.replaying.server import Server, Work
from trueline.replaying.wire import Wire
from trueline.web.api.staleness import StalenessView

REPORT = Path("demo") / "report.html"


@click.command("demo", help=__doc__)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on standard output.")
@click.option(
    "--pace",
    default=0.0,
    metavar="SECONDS",
    help="Seconds for each day of the replay, for an audience; 0 is as fast as it goes.",
)
@click.option("--keep", is_flag=True, help="Leave the server running and its folder in place.")
@click.option("--seed", default=SEED, show_default=True, help="Of the sample of flights.")
@click.option(
    "--until",
    default=END,
    type=click.DateTime(["%Y-%m-%d"]),
    show_default="the end of 2013",
    help="Stop before this day.",
)
@click.option(
    "--tick",
    default=TICK / timedelta(hours=1),
    show_default=True,
    metavar="HOURS",
    help="Event time between two looks of the controllers.",
)
@click.option(
    "--report",
    "report_path",
    default=REPORT,
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the report goes.",
)
def command(
    *, as_json: bool, pace: float, keep: bool, seed: int, until: datetime, tick: float, report_path: Path
) -> None:
    year, staleness, left = live_through(
        flights.load(seed, SAMPLE), until=until.replace(tzinfo=UTC), tick=timedelta(hours=tick), pace=pace, keep=keep
    )
    report_path.parent.mkdir(parents=True, exist_ok=True)
    report_path.write_text(report.page(year, staleness), encoding="utf-8")
    told = Console(file=sys.stderr)
    told.print(f"report: {report_path}", soft_wrap=True)
    if left is not None:
        told.print(left, soft_wrap=True, highlight=False)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(year.as_dict()) + b"\n")
        sys.stdout.flush()
    else:
        show(year, Console())


def live_through(
    drawn: Flights, *, until: datetime = END, tick: timedelta = TICK, pace: float = 0.0, keep: bool = False
) -> tuple[Year, StalenessView | None, str | None]:
    """The replay with everything around it; the server is ended however it goes, unless it is to be kept."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="trueline-demo-"))
    try:
        work = prepare(folder, drawn)
        server = Server(work)
        finished = False
        try:
            ledger = books(drawn, until)  # while the server comes up
            year, staleness = _replay(work, server, ledger, until=until, tick=tick, pace=pace, began=began)
            finished = True
        finally:
            if not (keep and finished):
                server.stop()
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    left = f"the server goes on, its folder is {folder}; end it with: kill {server.pid}" if keep else None
    return year, staleness, left


def books(drawn: Flights, until: datetime = END) -> Ledger:
    """The ledger of the flights before `until`, with what the two other policies would have answered."""
    fit = compare.fit_function(project_folder())
    asked = [flight for flight in drawn.served if flight.scheduled < until]
    told = FEED.flights(drawn)
    frozen, monthly = compare.frozen(told, fit), compare.monthly(told, fit)
    return Ledger(asked, frozen[: len(asked)], monthly[: len(asked)])


def _replay(
    work: Work, server: Server, ledger: Ledger, *, until: datetime, tick: timedelta, pace: float, began: float
) -> tuple[Year, StalenessView | None]:
    serving = server.wait()
    wire = Wire(serving.serve)
    with Client.connect(work.state) as client, watcher(ledger) as watching:
        replay = Replay(client, wire, ledger, watching, tick=tick, pace=pace, until=until)
        replay.run()
        wire.close()
        status = client.status()
        incidents = sorted(client.incidents(limit=1000).items, key=lambda one: one.opened_at)
        stopped = [Stopped(push, push.release(client)) for push in replay.pushes if push.run is not None]
        staleness = None
        with suppress(TruelineError):  # a replay too short to have one
            staleness = client.staleness()
        year = Year(
            ledger=ledger,
            events=replay.events,
            incidents=incidents,
            stopped=stopped,
            predictions_stored=status.predictions or 0,
            labels_stored=status.labels or 0,
            seconds=time.monotonic() - began,
        )
    return year, staleness


def show(year: Year, console: Console) -> None:
    """The table that the demo ends with, and the three figures under it."""
    table = Table(title="minutes off, on average", title_justify="left")
    table.add_column("month")
    for name in ("flights", "frozen January", "retrain every month", "trueline", "promotions", "alerts"):
        table.add_column(name, justify="right")
    for month in year.months():
        errors = (f"{month.mae[policy]:.2f}" for policy in POLICIES)
        table.add_row(
            month.name, f"{month.flights:,}", *errors, str(month.promotions or ""), str(month.incidents or "")
        )
    console.print(table)
    console.print("\n".join(sentences(year)), soft_wrap=True, highlight=False)


def sentences(year: Year) -> list[str]:
    """What the year came to, in words."""
    summary = year.as_dict()
    told = []
    mae = summary["may_sep_mae"]
    if None not in mae.values():
        told.append(
            f"May–September: trueline's error is {mae['trueline'] / mae['frozen']:.2f} of the frozen model's "
            f"and {mae['trueline'] / mae['monthly']:.2f} of retrain-every-month's."
        )
    if stopped := summary["gate_stopped"]:
        told.append(f"Version {stopped['version']} was stopped by its gate ({stopped['verdict']}): {stopped['reason']}")
    if back := summary["canary_rolled_back"]:
        took = "" if back["rollback_ms"] is None else f" in {back['rollback_ms']:.0f} ms"
        told.append(
            f"Version {back['version']} passed by a waiver, answered {back['requests_answered']} requests as canary "
            f"and was rolled back{took}: {back['reason']}"
        )
    if fault := summary["upstream_fault"]:
        ended = f"; closed by itself on {fault['closed'][:10]}" if fault["closed"] else "; still open"
        told.append(
            f"Upstream fault: {fault['feature']} in {fault['slice']}, since {fault['since']}, found on {fault['opened'][:10]}, "
            f"advice {fault['advice']}, {fault['promoted_meanwhile']} promotions meanwhile{ended}: {fault['reason']}"
        )
    if autumn := summary["autumn"]:
        told.append(f"Autumn, {autumn['at'][:10]}: {autumn['action']} version {autumn['version']}. {autumn['reason']}")
    told.append(
        f"{summary['acknowledged']:,} predictions were acknowledged, {summary['stored']:,} are stored; "
        f"{summary['refused']} requests were refused; {summary['seconds']:g} s."
    )
    return told


def main(args: Sequence[str]) -> int | None:
    """Run with these arguments; errors are `trueline.errors`, for the command line to tell."""
    command.main(args=list(args), prog_name="trueline demo", standalone_mode=False)
    return None
