"""What a benchmark prints: one claim per line, as a table for people or as JSON for tools.

A script is `measurement.script(__doc__, measure)`: `measure(quick)` yields measurements as they are made. `holds` is true
or false where this run can tell, and null where it cannot (a peer that was not run, a target nobody has set). Times never
fail anything: a script ends with 0 unless it could not measure.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.table import Table

IDS = frozenset(
    {
        "serve-throughput",
        "serve-echo",
        "serve-native",
        "serve-start",
        "parity",
        "log-metric",
        "noop-pipeline",
        "cli-start",
        "data-version",
        "validate",
        "drift-cost",
        "estimate-cost",
        "false-page",
        "rollback",
        "scale",
    }
)
"""The design's list of numbers to reach; a measurement without a place there has no id."""

WORDS = {True: "yes", False: "NO", None: "-"}
WIDTH = 160  # of a table that goes into a file


@dataclass(frozen=True)
class Measurement:
    """`ratio` is value divided by that of `against`, from the same run."""

    claim: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None
    target: str | None = None
    holds: bool | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        if self.id is not None and self.id not in IDS:
            raise ValueError(f"{self.id} is not an id of the design's numbers")

    def line(self) -> str:
        """One JSON object."""
        fields = asdict(self)
        return json.dumps(
            {"id": fields.pop("id"), **fields, "value": _short(self.value), "ratio": _short(self.ratio)}, ensure_ascii=False
        )


def parse(line: str) -> Measurement:
    """The inverse of `line`."""
    return Measurement(**json.loads(line))


def script(about: str | None, measure: Callable[[bool], Iterable[Measurement]]) -> int:
    """Run one script from the command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    given = parser.parse_args()
    if given.as_json:
        for one in measure(given.quick):
            print(one.line(), flush=True)
    else:
        show((about or "").splitlines()[0], list(measure(given.quick)))
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help="one JSON object per line")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, measures nothing")


def show(title: str, found: Sequence[Measurement]) -> None:
    """Print measurements as a table."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("id", "claim", "value", "unit", "against", "ratio", "target", "holds"):
        table.add_column(heading, justify="right" if heading in ("value", "ratio") else "left")
    for one in found:
        ratio = "" if one.ratio is None else number(one.ratio)
        facts = (one.id or "", one.claim, number(one.value), one.unit, one.against or "", ratio, one.target or "")
        table.add_row(*facts, WORDS[one.holds])
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def number(value: float) -> str:
    """Three significant digits, with separators where they help.

    >>> number(24_680.0), number(0.01234), number(0.0)
    ('24,700', '0.0123', '0')
    """
    if value == 0:
        return "0"
    short = float(f"{value:.3g}")
    return f"{short:,.0f}" if abs(short) >= 1000 else f"{short:g}"


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
