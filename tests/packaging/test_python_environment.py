"""A Python model in an environment of its own, built once for its lock: other versions than here, and no trueline."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

import pytest

from trueline.errors import PackagingFailed
from trueline.packaging import manifest, python_environment
from trueline.packaging.executors import load
from trueline.packaging.python_model import Code
from trueline.settings import StateFolder
from trueline.storage import trees

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]  # pip installs Polars and NumPy

FUNCTION = """
try:
    import trueline.packaging as here
except ImportError:
    here = None


def ask(frame):
    return frame["distance"] * 2 if here else frame["distance"] * 2 + 1
"""


@pytest.fixture
def packaged(pack, tmp_path, monkeypatch):
    """A model that was packaged where six was another version than here."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "asked.py").write_text(FUNCTION)
    monkeypatch.syspath_prepend(str(project))
    state = StateFolder(tmp_path / "state").create()
    ask = importlib.import_module("asked").ask
    made = pack(ask, code=Code(project, ("asked.py",)), folder=state.root / "model")
    sys.modules.pop("asked")
    lock = made.folder / python_environment.LOCK
    wanted = [line for line in lock.read_text().splitlines() if line.partition("==")[0] in KEPT or line[0] == "#"]
    lock.write_text("\n".join([*wanted, f"six=={other_than(importlib.metadata.version('six'))}"]) + "\n")
    manifest.write(made.folder, manifest.read(made.folder))  # as if it had been packaged so
    return made


KEPT = {"msgspec", "numpy", "polars", "polars-runtime-32"}


def other_than(version):
    return next(one for one in ("1.16.0", "1.17.0") if one != version)


def test_an_environment_is_built_once_for_a_lock_and_has_nothing_else(packaged, tmp_path, monkeypatch):
    digest = trees.digest(packaged.folder)
    executor = load(packaged.folder, digest)
    assert executor.predict({"distance": [10.0], **others(executor)}).tolist() == [21.0]  # it has no trueline
    (place,) = (tmp_path / "state" / "environments").glob("*/bin")
    python = python_environment.interpreter(packaged.folder)
    assert python == str(place / "python")

    def refuse(command):
        raise AssertionError(f"it is there already: {command}")

    monkeypatch.setattr(python_environment, "_run", refuse)
    again = load(packaged.folder, digest)
    assert again.predict({"distance": [1.0], **others(again)}).tolist() == [3.0]


def others(executor):
    kinds = {"string": "A", "boolean": True}
    return {one.name: [kinds.get(str(one.kind), 1)] for one in executor.signature.inputs if one.name != "distance"}


def test_without_an_index_and_wheels_it_is_said_what_is_missing(packaged, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(PackagingFailed, match=r"cannot be built \(ERROR: .*differ: six==.*PIP_FIND_LINKS"):
        load(packaged.folder, trees.digest(packaged.folder))
    assert not list((tmp_path / "state" / "environments").glob("*/bin"))
