"""The demo's project, copied into a work folder as a user would have it."""

from __future__ import annotations

import shutil
from pathlib import Path

from trueline.demo.flights import Flights
from trueline.errors import InvalidProject
from trueline.replaying.server import Work

PROJECT = ("trueline.yaml", "model.py", "leaky.py", "kilometres.py")


def project_folder() -> Path:
    """The demo's project: shipped inside the package, or in the clone that the package was installed from."""
    here = Path(__file__).resolve().parent
    for folder in (here / "project", here.parents[2] / "demo"):
        if (folder / "trueline.yaml").is_file():
            return folder
    raise InvalidProject("the demo's project folder is not there; run `trueline demo` from a clone of the repository")


def prepare(folder: Path, flights: Flights) -> Work:
    """Copy the project as a user would have it, with January as its data."""
    project = project_folder()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name in PROJECT:
        shutil.copy(project / name, folder / name)
    flights.january.write_parquet(folder / "data" / "january.parquet")
    return Work(folder)
