"""A measured figure, and how every script here prints its own: a table, or with `--json` one object per line."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """`against` is what it was measured beside, in the same run; `holds` is None where there is no target yet."""

    id: str  # of DESIGN.md §7 where there is one
    claim: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None
    target: str | None = None
    holds: bool | None = None


def tell(measure: Callable[[], Sequence[Figure]], description: str | None) -> None:
    """A script's whole main: measure, then print."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()
    show(measure(), as_json=given.json)


def show(figures: Sequence[Figure], *, as_json: bool) -> None:
    for figure in figures:
        print(json.dumps(asdict(figure)) if as_json else row(figure), flush=True)


def row(figure: Figure) -> str:
    verdict = {True: "holds", False: "MISSED", None: ""}[figure.holds]
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}×"
    value = f"{figure.value:,.4g}" if figure.value < 10_000 else f"{figure.value:,.0f}"
    said = f"{figure.claim}" + (f"  [against {figure.against}]" if figure.against else "")
    return f"{figure.id:<17} {value:>9} {figure.unit:<18} {ratio:>7}  {figure.target or '':<22} {verdict:<7} {said}"


def cpu_of(pid: int) -> float:
    """CPU seconds of one process so far, from the kernel's books."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_children(run: Callable[[], object]) -> float:
    """CPU seconds of the processes that `run` starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def best_cpu(run: Callable[[], object], times: int = 5) -> float:
    """The least CPU seconds of this process that `run` took: what it costs when nothing else interferes."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def pin(pid: int, core: int) -> None:
    """Keep a process on one core, where there are several and the system allows it."""
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if len(cores) > 1:
        os.sched_setaffinity(pid, {cores[core % len(cores)]})
