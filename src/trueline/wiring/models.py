"""The model of a project's version on this machine, for who scores without a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trueline.control import artefacts, endpoints, runs
from trueline.errors import NotFound, PackagingFailed
from trueline.packaging import manifest
from trueline.settings import StateFolder
from trueline.wiring.opening import open_context


@dataclass(frozen=True)
class Chosen:
    project: str
    version: int
    folder: Path
    digest: str


def choose(project_file: Path, state: StateFolder, target: str | None, version: int | None) -> Chosen:
    """The champion, or the version that is named; its model is brought here from the storage if need be.

    Raises:
        NotFound: nothing is released yet, or there is no such version.
    """
    context = open_context(project_file, state.root, target=target, looking=True)
    name = context.project.name
    try:
        with context.store.read() as tx:
            number = endpoints.get(tx, name).champion if version is None else version
            if number is None:
                raise NotFound(
                    f"no version of {name} is released yet; name one with --version (`trueline versions` lists them)"
                )
            found = runs.version(tx, name, number)
        folder = artefacts.model(context, found)
        if not context.project.serve.pickle and manifest.read(folder).kind == manifest.PYTHON:
            raise PackagingFailed(
                f"version {number} holds a pickled Python object, and serve.pickle is false; choose another"
            )
        return Chosen(name, number, folder, found.digest)
    finally:
        context.store.close()
