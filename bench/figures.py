"""A measured figure, and how every script here prints its own: a table, or with `--json` one object per line.

Times never fail anything: a script ends with 0 unless it could not measure.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Protocol

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
"""The design's list of numbers to reach; a figure without a place there has no id."""

VERDICTS = {True: "holds", False: "MISSED", None: "-"}
ROW = "{:<16} {:>9} {:<16} {:>8}  {:<24} {:<6}  {}"
HEADING = ROW.format("id", "value", "unit", "ratio", "target", "", "claim")


@dataclass(frozen=True)
class Figure:
    """`against` is what it was measured beside, in the same run, and `ratio` the value divided by its own.

    `holds` is None where this run cannot tell: nobody has set a target, or it is about peers that were not run.
    """

    id: str | None  # of DESIGN.md §7 where there is one
    claim: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None
    target: str | None = None
    holds: bool | None = None

    def __post_init__(self) -> None:
        if self.id is not None and self.id not in IDS:
            raise ValueError(f"{self.id} is not an id of the design's numbers")


class Measure(Protocol):
    def __call__(self, *, quick: bool) -> Iterable[Figure]:
        """Figures as they are made; `quick` is tiny sizes, which show that a script works and measure nothing."""


def tell(measure: Measure, description: str | None) -> None:
    """A script's whole main: measure, then print."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    given = parser.parse_args()
    end_in_order()
    show(measure(quick=given.quick), as_json=given.json)


def end_in_order() -> None:
    """Let SIGTERM unwind, so that servers are stopped and folders removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, measures nothing")


def show(figures: Iterable[Figure], *, as_json: bool) -> None:
    if not as_json:
        print(HEADING, flush=True)
    for figure in figures:
        print(line(figure) if as_json else row(figure), flush=True)


def line(figure: Figure) -> str:
    """As JSON, four digits of each number."""
    short = replace(figure, value=_digits(figure.value), ratio=None if figure.ratio is None else _digits(figure.ratio))
    return json.dumps(asdict(short), ensure_ascii=False)


def parse(text: str) -> Figure:
    """The inverse of `line`."""
    return Figure(**json.loads(text))


def row(figure: Figure) -> str:
    ratio = "" if figure.ratio is None else f"{number(figure.ratio)}×"
    said = f"{figure.claim}" + (f"  [against {figure.against}]" if figure.against else "")
    facts = (figure.id or "", number(figure.value), figure.unit, ratio, figure.target or "")
    return ROW.format(*facts, VERDICTS[figure.holds], said)


def number(value: float) -> str:
    """Three significant digits, with separators where they help.

    >>> number(24_680.0), number(0.01234), number(0.0)
    ('24,700', '0.0123', '0')
    """
    if value == 0:
        return "0"
    short = float(f"{value:.3g}")
    return f"{short:,.0f}" if abs(short) >= 1000 else f"{short:g}"


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
