"""Every benchmark tells its figures in one form. What they are is never tested: the machine is shared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
KEYS = ["id", "claim", "value", "unit", "against", "ratio", "target", "holds"]
CHEAP = ("log_metric", "store", "validate", "drift_cost", "parity")
APART = {
    *("run", "figures", "scores", "cpu", "models"),
    *("contest", "endpoints", "servers", "load", "wrk", "openloop", "echo"),
    "overload",  # prints in a form of its own
}
"""What is in the folder and measures nothing itself."""


def output(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCH / f"{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=100).stdout


def scripts() -> list[str]:
    return sorted(path.stem for path in BENCH.glob("*.py") if path.stem not in APART)


@pytest.mark.parametrize("script", CHEAP)
def test_a_script_prints_one_object_per_line(script):
    lines = output(script, "--quick", "--json").splitlines()
    assert lines
    for line in lines:
        figure = json.loads(line)
        assert list(figure) == KEYS
        assert figure["claim"]
        assert isinstance(figure["value"], int | float)
        assert figure["unit"]
        assert figure["holds"] in (True, False, None)
        assert figure["target"] or figure["holds"] is None, "nothing holds that is not a target"
        assert (figure["ratio"] is None) or figure["against"]


def test_run_knows_every_script_and_prints_their_table():
    table = output("run", "log_metric", "--quick")
    heading, *rows = table.splitlines()
    assert heading.split() == ["id", "value", "unit", "ratio", "target", "claim"]
    assert rows
    assert all(row.startswith("log-metric ") for row in rows)
    named = output("run", "--help").partition("script  ")[2].partition("of ")[2].partition(";")[0]
    assert sorted(name.strip() for name in named.split(",")) == scripts()


def test_the_page_names_every_script():
    page = (BENCH / "README.md").read_text()
    assert [name for name in scripts() if f"`{name}.py`" not in page] == []


def test_a_benchmark_that_is_not_there_is_named():
    wrong = subprocess.run(
        [sys.executable, str(BENCH / "run.py"), "speed"], capture_output=True, check=False, text=True, timeout=60
    )
    assert wrong.returncode == 2
    assert "there is no benchmark speed" in wrong.stderr
