"""docs/executors.md: it names every estimator of its script, and what it says of them still holds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SAMPLE = ("Ridge", "OneHotEncoder, LogisticRegression", "LinearDiscriminantAnalysis", "XGBClassifier", "LGBMRegressor")


def script() -> Any:
    spec = importlib.util.spec_from_file_location("docs_executors", DOCS / "executors.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = script()


def table() -> dict[str, list[str]]:
    text = (DOCS / "executors.md").read_text().partition("## The table")[2]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines[1:]}


def test_the_table_names_every_estimator_of_the_script() -> None:
    assert list(table()) == list(SCRIPT.CASES), "run: python docs/executors.py"
    assert len(SCRIPT.CASES) >= 40
    assert set(SAMPLE) <= set(SCRIPT.CASES)


def test_no_row_of_the_table_is_beyond_the_tolerance() -> None:
    assert all(float(cells[5]) <= 1e-5 for cells in table().values())


def check(name: str, folder: Path) -> None:
    made = SCRIPT.packaged(name, folder / "model")
    executor, *_, worst, _, _ = table()[name]
    assert made.kind == executor.partition(",")[0], made.parity
    assert made.parity.worst <= max(10 * float(worst), 1e-6)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_the_table_holds(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in SCRIPT.CASES if name not in SAMPLE])
def test_the_rest_of_the_table_holds(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)
