"""The code of a step: of its file what it reaches, of other project files all."""

from __future__ import annotations

from pathlib import Path

import pytest

from trueline.errors import TrainingFailed
from trueline.pipelines.piped import is_pipeline
from trueline.pipelines.reach import Reach

FILE = """
from trueline import pipeline, step
import features
from models import make, spare
import effects
LIMIT = 3
CONFIG = {}
CONFIG["a"] = LIMIT

def helper(x): return x + LIMIT
def other(x): return CONFIG

@step(retries=3)
def prepare(frame): return features.columns(helper(frame))

@step
def fit(frame): return make(other(frame))

@step
def odd(frame): return eval("1")

@pipeline
def training(frame): return fit(prepare(frame))
"""


def write(root: Path, text: str = FILE) -> None:
    (root / "pipeline.py").write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path)
    for name, text in {"features": "def columns(x): ...", "models": "import deep", "deep": "", "effects": ""}.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def codes(root: Path) -> dict[str, dict[str, str]]:
    reach = Reach(root)
    return {name: reach.of("pipeline.py", name) for name in ("prepare", "fit", "odd")}


def test_other_files_count_as_a_whole_where_the_step_reaches_them(root: Path) -> None:
    assert {name: set(found) for name, found in codes(root).items()} == {
        "prepare": {"pipeline.py:prepare", "features.py", "effects.py"},
        "fit": {"pipeline.py:fit", "models.py", "deep.py", "effects.py"},
        "odd": {"pipeline.py:odd", "features.py", "models.py", "deep.py", "effects.py"},
    }


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("retries=3", "retries=4, timeout='1m'", {"odd"}),
        ("def fit(frame): return", "def fit(frame):  # mended\n    return", set()),
        ("return features.columns(helper(frame))", "return features.columns(frame)", {"prepare", "odd"}),
        ("return x + LIMIT", "return x", {"prepare", "odd"}),
        ('CONFIG["a"] = LIMIT', 'CONFIG["b"] = LIMIT', {"fit", "odd"}),
        ("LIMIT = 3", "LIMIT = 4", {"prepare", "fit", "odd"}),
        ("make, spare", "make", {"odd"}),
        ("import effects\n", "import effects\nprint(1)\n", {"prepare", "fit", "odd"}),
        ("from trueline import pipeline, step", "from trueline import log, pipeline, step", {"odd"}),
        ("fit(prepare(frame))", "fit(frame)", {"odd"}),
        ("LIMIT = 3", 'LIMIT = 3\nif __name__ == "__main__":\n    print(training([]))\n', set()),
    ],
)
def test_a_change_concerns_the_steps_that_reach_it(root: Path, before: str, after: str, changed: set[str]) -> None:
    then = codes(root)
    assert before in FILE
    write(root, FILE.replace(before, after))
    now = codes(root)
    assert {name for name in then if then[name] != now[name]} == changed


def test_a_step_that_is_not_there_is_told(root: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"pipeline.py has no function 'gone' at its top"):
        Reach(root).of("pipeline.py", "gone")


@pytest.mark.parametrize(
    ("entry", "answer"),
    [("pipeline.py:training", True), ("pipeline.py:fit", False), ("main.py:training", True), ("main.py:made", True),
     ("main.py:plain", False), ("gone.py:x", False)],
)  # fmt: skip
def test_a_pipeline_is_known_by_its_file_alone(root: Path, entry: str, answer: bool) -> None:  # noqa: FBT001
    (root / "main.py").write_text(
        "import trueline\nfrom pipeline import training\ndef plain(frame): ...\nmade = trueline.pipeline(plain)\n"
    )
    assert is_pipeline(root, entry) is answer
