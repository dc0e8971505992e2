"""Where the files of a run go: beside our own SQLite file as hard links, to a server by upload.

Both may be told the same file any number of times. An upload is skipped when the store lists the file with its size: a
file that was cut off has another one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from trueline.errors import InvalidInput


class Artifacts(Protocol):
    def put(self, root: str, path: str, source: Path) -> None:
        """Keep the file `source` as `path` under the artifact root of a run or model."""

    def model(self, root: str, folder: Path) -> str:
        """The address of a packaged model, for the registry; `root` is the artifact root of its run."""

    def forget(self) -> None:
        """Trust nothing that was seen before: a call may have been cut off."""


class Linked:
    """Files on this machine: no byte is copied, and models stay where they are served from."""

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts

    def put(self, root: str, path: str, source: Path) -> None:
        _link(source, Path(unquote(urlsplit(root).path)) / path)

    def model(self, root: str, folder: Path) -> str:  # noqa: ARG002  the port's signature
        return folder.absolute().as_uri()

    def forget(self) -> None: ...


class Uploaded:
    """Files by MLflow's own repositories: through the server, or straight to the bucket that it names."""

    def __init__(self, repository: Callable[[str], Any]) -> None:
        self._repository = repository
        self._listed: dict[tuple[str, str], dict[str, int]] = {}

    def put(self, root: str, path: str, source: Path) -> None:
        repository = self._reachable(root)
        folder, _, name = path.rpartition("/")
        listed = self._listed.get((root, folder))
        if listed is None:
            listed = self._listed[root, folder] = _sizes(repository, folder)
        size = source.stat().st_size
        if listed.get(name) != size:
            repository.log_artifact(str(source), folder or None)
            listed[name] = size

    def model(self, root: str, folder: Path) -> str:
        for path, source in files(folder):
            self.put(root, f"model/{path}", source)
        return f"{root.rstrip('/')}/model"

    def forget(self) -> None:
        self._listed.clear()

    def _reachable(self, root: str) -> Any:
        parts = urlsplit(root)
        if parts.scheme in {"", "file"} and not Path(unquote(parts.path)).parents[2].is_dir():
            raise InvalidInput(
                f"the MLflow server keeps files in its own folder {parts.path}, which this machine does not see: start it "
                "with --artifacts-destination instead of --default-artifact-root, and make the experiment anew"
            )
        return self._repository(root)


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file under a folder, with its path from there."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _sizes(repository: Any, folder: str) -> dict[str, int]:
    listed = repository.list_artifacts(folder or None)
    return {one.path.rpartition("/")[2]: int(one.file_size or 0) for one in listed if not one.is_dir}


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        draft.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, draft)
    draft.replace(target)
    draft.unlink(missing_ok=True)  # renaming onto another link of the same file does nothing, by POSIX
