"""A user with a data file, an empty folder and the command line."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths

from journey import ON_POSTGRESQL, Desk

FOREIGN = ("TRUELINE_URL", "TRUELINE_TOKEN", "TRUELINE_PROJECT", "TRUELINE_STATE", "FORCE_COLOR")


@pytest.fixture(scope="session", autouse=True)
def _quiet_surroundings():
    with pytest.MonkeyPatch.context() as patch:
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def new_desk(tmp_path_factory, request):
    """Make empty folders to work in; whatever still runs there is ended with the module.

    With `seeded` the MLflow database is there already, and always on PostgreSQL: that it makes itself is seen on SQLite.
    """
    desks: list[Desk] = []
    new_database = request.getfixturevalue("postgresql").fresh if ON_POSTGRESQL else None

    def make(name: str, *, seeded: bool = False) -> Desk:
        desks.append(Desk(tmp_path_factory.mktemp(name), new_database))
        if seeded or ON_POSTGRESQL:
            state = desks[-1].state
            state.root.mkdir()
            shutil.copy(request.getfixturevalue("mlflow_database"), state.tracking_database)
        return desks[-1]

    before = Path.cwd()
    yield make
    os.chdir(before)
    for desk in desks:
        desk.clear()
        shutil.rmtree(desk.state.socket("any").parent, ignore_errors=True)
