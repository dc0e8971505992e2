"""All benchmarks, one after the other: `make bench`, or `make bench ARGS=--json`; or those named.

Each script runs alone in a fresh process, so none measures what another left behind. `--peers` measures the other model
servers too, which takes half an hour more. `--readme` also writes the last results into README.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import scores
from figures import HEADING, VERDICTS, Figure, add_options, end_in_order, line, number, parse, row
from scores import Score

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
LONGER = ("batch", "sync")
"""Run when they are named: minutes, or about one disk."""
MARK = "## Last result"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scripts",
        nargs="*",
        metavar="script",
        help=f"of {', '.join(SCRIPTS + LONGER)}; default: all but the last {len(LONGER)}",
    )
    parser.add_argument("--peers", action="store_true", help="install the other model servers and measure them too")
    parser.add_argument(
        "--cache", type=Path, help="where the peers' environments are kept; default is in the XDG cache"
    )
    parser.add_argument("--readme", action="store_true", help="keep the results in README.md")
    add_options(parser)
    given = parser.parse_args()
    if unknown := set(given.scripts) - set(SCRIPTS + LONGER):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS + LONGER)}")
    end_in_order()
    if not given.json:
        print(HEADING, flush=True)
    found: list[tuple[str, Figure | Score]] = []
    broken: list[str] = []
    for script in given.scripts or SCRIPTS:
        told = measured(script, _options(script, given), as_json=given.json)
        if told is None:
            broken.append(script)
        else:
            found += [(script, one) for one in told]
    if given.readme and not broken:
        keep(found)
    if broken:
        print(f"could not be measured: {', '.join(broken)}; the reason is above", file=sys.stderr)
    return 1 if broken else 0


def _options(script: str, given: argparse.Namespace) -> list[str]:
    options = ["--quick"] if given.quick else []
    if script == "serving":
        options += ["--peers"] if given.peers else []
        options += ["--cache", str(given.cache)] if given.cache else []
    return options


def measured(script: str, options: list[str], *, as_json: bool) -> list[Figure | Score] | None:
    """What one script found, printed as it comes, the servers' table after the rest; None when it failed."""
    command = [sys.executable, str(HERE / f"{script}.py"), "--json", *options]
    found: list[Figure | Score] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for text in process.stdout:
                one = scores.parse(text) if scores.is_score(text) else parse(text)
                found.append(one)
                if as_json:
                    print(scores.line(one) if isinstance(one, Score) else line(one), flush=True)
                elif isinstance(one, Figure):
                    print(row(one), flush=True)
        except BaseException:
            process.terminate()
            raise
    servers = [one for one in found if isinstance(one, Score)]
    if servers and not as_json:
        print(f"\n{scores.table(servers)}\n", flush=True)
    return None if process.returncode else found


def keep(found: list[tuple[str, Figure | Score]]) -> None:
    """Replace what README.md says after its last heading."""
    page = HERE / "README.md"
    above = page.read_text().partition(MARK)[0]
    rows = "".join(_cells(script, one) for script, one in found if isinstance(one, Figure))
    servers = scores.markdown(one for _, one in found if isinstance(one, Score))
    page.write_text(
        f"{above}{MARK}\n\n{datetime.now(UTC):%Y-%m-%d}, 2 cores; by `bench/run.py --readme`.\n\n"
        f"| id | script | claim | value | beside | ratio | target | |\n|---|---|---|---|---|---|---|---|\n{rows}\n"
        f"### Model servers, one by one\n\n{servers}"
    )


def _cells(script: str, figure: Figure) -> str:
    ratio = "" if figure.ratio is None else f"{number(figure.ratio)}×"
    verdict = {**VERDICTS, False: "**missed**", None: "no verdict" if figure.target else ""}[figure.holds]
    value = f"{number(figure.value)} {figure.unit}"
    facts = (figure.id or "", f"`{script}.py`", figure.claim, value, figure.against or "", ratio, figure.target or "")
    return f"| {' | '.join(facts)} | {verdict} |\n"


if __name__ == "__main__":
    sys.exit(main())
