"""What makes two trainings the same: code, parameters, data, environment, seed."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from trueline.errors import TrainingFailed
from trueline.pipelines.closure import closure
from trueline.pipelines.environment import environment
from trueline.pipelines.key import difference, key_parts, run_key
from trueline.pipelines.tree import keep, snapshot


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_closure_is_every_project_module_that_is_reached(tmp_path: Path) -> None:
    write(
        tmp_path,
        model="import os, numpy\nfrom shop import prices\nimport shop.stock as s\ndef fit(frame):\n    from late import x\n",
        shop__prices="from . import tax\nfrom .deep.down import rule\n",
        shop__tax="",
        shop__stock="from shop.tax import *\n",
        shop__deep__down="from ...late import x\n",
        late="import model\n",
        unrelated="import late\n",
    )
    (tmp_path / "shop" / "__init__.py").write_text("from .only_here import y\n")
    (tmp_path / "shop" / "only_here.py").write_text("y = 1\n")
    assert set(closure(tmp_path, "model.py:fit")) == {
        "model.py",
        "late.py",
        "shop/__init__.py",
        "shop/only_here.py",
        "shop/prices.py",
        "shop/stock.py",
        "shop/tax.py",
        "shop/deep/down.py",
    }


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("def fit(frame):  # now with a comment\n\n    return   frame\n", True),
        ("def fit(frame):\n    return frame.head()\n", False),
        ("def fit(frame):\n    'told'\n    return frame\n", False),
    ],
)
def test_comments_and_formatting_are_not_code(tmp_path: Path, text: str, *, same: bool) -> None:
    write(tmp_path, model="def fit(frame):\n    return frame\n")
    before = closure(tmp_path, "model.py:fit")
    write(tmp_path, model=text)
    assert (closure(tmp_path, "model.py:fit") == before) is same


def test_a_module_beside_one_in_a_subfolder_is_reached(tmp_path: Path) -> None:
    write(tmp_path, src__model="import beside\nimport top\n", src__beside="", top="")
    assert set(closure(tmp_path, "src/model.py:fit")) == {"src/model.py", "src/beside.py", "top.py"}


def test_code_that_is_not_python_is_told_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, model="import broken\n", broken="x = (\n")
    with pytest.raises(TrainingFailed, match=r"^broken\.py:1: not valid Python: '\(' was never closed"):
        closure(tmp_path, "model.py:fit")
    with pytest.raises(TrainingFailed, match=r"there is no file gone\.py"):
        closure(tmp_path, "gone.py:fit")


def parts(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "code": {"model.py": "a"},
        "entry": "model.py:fit",
        "params": {"depth": 6},
        "inputs": {"dataset": "d1"},
        "environment": {"python": "3.12", "platform": "linux", "threads": 1, "packages": {"numpy": "2.0"}},
        "seed": 0,
    }
    return key_parts(**(given | changes))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"code": {"model.py": "b"}}, "code of model.py changed"),
        ({"code": {"model.py": "a", "new.py": "c"}}, "code of new.py is new"),
        ({"params": {}}, "parameter depth is gone"),
        ({"params": {"depth": 7}}, "parameter depth changed (6 -> 7)"),
        ({"inputs": {"dataset": "d2"}}, "dataset changed (d1 -> d2)"),
        ({"entry": "model.py:other"}, "the function is model.py:other instead of model.py:fit"),
        ({"seed": 3}, "the seed is 3 instead of 0"),
        (
            {"environment": {"python": "3.13", "platform": "linux", "threads": 1, "packages": {"numpy": "2.1"}}},
            "python is 3.13 instead of 3.12; package numpy changed (2.0 -> 2.1)",
        ),
    ],
)
def test_every_part_of_the_key_matters_and_is_named_when_it_differs(change: dict[str, Any], says: str) -> None:
    assert run_key(parts(**change)) != run_key(parts())
    assert difference(parts(), parts(**change)) == says


def test_equal_parts_are_one_key_in_any_order() -> None:
    two = {"a": 1, "b": 2}
    assert run_key(parts(params=two)) == run_key(parts(params=dict(reversed(two.items()))))
    assert difference(parts(), parts()).startswith("nothing differs")


def test_many_differences_are_counted_not_listed() -> None:
    many = parts(code={f"m{number}.py": "x" for number in range(9)})
    assert difference(parts(code={}), many).endswith("; and 4 more")


def test_the_environment_names_every_distribution() -> None:
    found = environment(2)
    assert found["threads"] == 2
    assert found["packages"]["scikit-learn"]


def git(root: Path, *arguments: str) -> None:
    program = shutil.which("git")
    if program is None:
        pytest.skip("git is not installed")
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run([program, "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def test_the_tree_is_the_files_as_they_are(tmp_path: Path) -> None:
    root, runs = tmp_path / "project", tmp_path / "runs"
    runs.mkdir()
    write(root, model="a = 1\n", sub__more="", _venv__x="")
    (root / ".trueline").mkdir()
    (root / ".trueline" / "state.py").write_text("")
    (root / "data.parquet").write_text("no code")
    first = snapshot(root)
    assert [name for name, _ in first.files] == ["_venv/x.py", "model.py", "sub/more.py"]
    assert first.sentence == "3 files, not under git"
    with zipfile.ZipFile(keep(first, root, runs)) as archive:
        assert archive.read("model.py") == b"a = 1\n"
    write(root, model="a = 2\n")
    assert snapshot(root).digest != first.digest


def test_a_tree_in_git_names_its_commit_and_whether_it_is_what_was_committed(tmp_path: Path) -> None:
    write(tmp_path, model="a = 1\n")
    git(tmp_path, "init")
    assert snapshot(tmp_path).commit is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = snapshot(tmp_path)
    assert clean.commit is not None
    assert clean.sentence == f"commit {clean.commit[:12]}"
    write(tmp_path, model="a = 2\n")
    assert snapshot(tmp_path).sentence.endswith("with uncommitted changes")


def test_secrets_are_not_kept_with_the_code(tmp_path: Path) -> None:
    (tmp_path / "trueline.yaml").write_text(
        "database: postgresql://ann:s3c}ret@db/trueline\ntargets: {prod: {tracking: file:tracking.txt}}\n"
    )
    (tmp_path / "tracking.txt").write_text("https://ann:hidden@mlflow.acme\n")
    (tmp_path / "model.py").write_text("URL = 'file://not/a/reference.txt'\n")
    tree = snapshot(tmp_path)
    assert [name for name, _ in tree.files] == ["model.py", "trueline.yaml"]
    with zipfile.ZipFile(keep(tree, tmp_path, tmp_path)) as archive:
        kept = b"".join(archive.read(name) for name in archive.namelist())
    assert b"s3c" not in kept
    assert b"postgresql://ann:***@db/trueline" in kept
