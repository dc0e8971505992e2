"""All benchmarks, one after the other: `make bench`, or `make bench ARGS=--json`; or those named.

Each script runs alone in a fresh process, so none measures what another left behind. `--readme` also writes the last
results into README.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from figures import HEADING, VERDICTS, Figure, add_options, end_in_order, line, number, parse, row

HERE = Path(__file__).parent
SCRIPTS = (
    "serving",
    "rollback",
    "starts",
    "log_metric",
    "parity",
    "validate",
    "drift_cost",
    "cache",
    "pipeline",
    "store",
)
MARK = "## Last result"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", metavar="script", help=f"of {', '.join(SCRIPTS)}; default all")
    parser.add_argument("--readme", action="store_true", help="keep the results in README.md")
    add_options(parser)
    given = parser.parse_args()
    if unknown := set(given.scripts) - set(SCRIPTS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS)}")
    end_in_order()
    if not given.json:
        print(HEADING, flush=True)
    found: list[tuple[str, Figure]] = []
    broken: list[str] = []
    for script in given.scripts or SCRIPTS:
        figures = measured(script, quick=given.quick, as_json=given.json)
        if figures is None:
            broken.append(script)
        else:
            found += [(script, figure) for figure in figures]
    if given.readme and not broken:
        keep(found)
    if broken:
        print(f"could not be measured: {', '.join(broken)}; the reason is above", file=sys.stderr)
    return 1 if broken else 0


def measured(script: str, *, quick: bool, as_json: bool) -> list[Figure] | None:
    """What one script found, printed as it comes; None when it failed."""
    command = [sys.executable, str(HERE / f"{script}.py"), "--json", *(["--quick"] if quick else [])]
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for text in process.stdout:
                figure = parse(text)
                print(line(figure) if as_json else row(figure), flush=True)
                found.append(figure)
        except BaseException:
            process.terminate()
            raise
    return None if process.returncode else found


def keep(found: list[tuple[str, Figure]]) -> None:
    """Replace what README.md says after its last heading."""
    page = HERE / "README.md"
    above = page.read_text().partition(MARK)[0]
    rows = "".join(_cells(script, figure) for script, figure in found)
    page.write_text(
        f"{above}{MARK}\n\n{datetime.now(UTC):%Y-%m-%d}, 2 cores, shared machine; by `bench/run.py --readme`.\n\n"
        f"| id | script | claim | value | beside | ratio | target | |\n|---|---|---|---|---|---|---|---|\n{rows}"
    )


def _cells(script: str, figure: Figure) -> str:
    ratio = "" if figure.ratio is None else f"{number(figure.ratio)}×"
    verdict = {**VERDICTS, False: "**missed**", None: "no verdict" if figure.target else ""}[figure.holds]
    value = f"{number(figure.value)} {figure.unit}"
    facts = (figure.id or "", f"`{script}.py`", figure.claim, value, figure.against or "", ratio, figure.target or "")
    return f"| {' | '.join(facts)} | {verdict} |\n"


if __name__ == "__main__":
    sys.exit(main())
