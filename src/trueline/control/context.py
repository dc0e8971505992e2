"""What every loop and command of one project works with, made once by `wiring`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trueline.clock import Clock
from trueline.control.releases import Scene
from trueline.domain.project import Project
from trueline.settings import StateFolder
from trueline.storage.places import Storage
from trueline.store import holders
from trueline.store.engine import Store


@dataclass(frozen=True)
class Context:
    project: Project
    root: Path  # the folder of the project file: sources and code are relative to it
    folder: StateFolder
    store: Store
    clock: Clock
    actor: str = "control"
    engine: Storage | None = None  # of tables and artefacts; None: the state folder

    @property
    def storage(self) -> Storage:
        return self.engine or Storage.home(self.folder)

    @property
    def holder(self) -> str:
        """Who holds what this process leases."""
        return holders.me()

    @property
    def scene(self) -> Scene:
        return Scene(self.project.name, self.folder, self.project.release.stick_to)
