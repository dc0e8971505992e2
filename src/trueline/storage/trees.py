"""Folders of files by their content: kept under their digest and brought back whole.

What lies under a digest can only be that content. So keeping it twice is once, of two writers neither spoils the
other's, an upload that was cut off is simply gone on with, and a folder that was brought back is proved by its name.
Standard library only: a serving process digests folders too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from trueline.errors import InvalidData, NotFound, Unavailable
from trueline.storage.objects import CHUNK, Objects

MODELS = "models"
BESIDE = "beside"


def digest(folder: Path) -> str:
    """SHA-256 over every file's path and content, in path order: equal folders, and only they, have equal digests."""
    found = [(path.relative_to(folder).as_posix(), path) for path in _files(folder)]
    return _digest((name, path.stat().st_size, _parts(path)) for name, path in found)


def file_digest(path: Path) -> str:
    """SHA-256 of one file, in hexadecimal."""
    whole = hashlib.sha256()
    for part in _parts(path):
        whole.update(part)
    return whole.hexdigest()


def file_digests(folder: Path, *, without: str) -> dict[str, str]:
    """The digest of each file in a folder by its path there, but for the one that is to say so."""
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    return {name: file_digest(path) for name, path in found.items() if name != without}


def keep_tree(objects: Objects, folder: Path, expected: str) -> None:
    """Bring a folder to the storage and prove, by reading it there, that it is all there.

    Raises:
        InvalidData: the folder, or what the storage gives back, is not what the digest says.
        Unavailable: the storage cannot be reached; asking again goes on.
    """
    prefix = _place(expected)
    _check(folder, digest(folder), expected)
    if _whole(objects, prefix, expected):
        return
    for path in _files(folder):
        objects.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path)
    if not _whole(objects, prefix, expected):
        raise InvalidData(
            f"{prefix} in {objects.shown} is not what was kept there: somebody else has changed it; delete it, it is "
            "kept anew at the next try"
        )


def fetch_tree(objects: Objects, expected: str, folder: Path) -> None:
    """Bring a kept folder back as `folder`, whole or not at all; one that is there is left as it is.

    Raises:
        NotFound: the storage has nothing of this digest.
        InvalidData: what it has is not what the digest says.
    """
    if folder.exists():
        return
    prefix = _place(expected)
    keys = objects.list(prefix)
    if not keys:
        raise NotFound(f"{objects.shown} has no model with digest {expected}; restore {prefix} there or train it again")
    draft = _draft(folder)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        for key in keys:
            _fetch(objects, key, draft / key.removeprefix(f"{prefix}/"))
        _check(draft, digest(draft), expected, f"{prefix} in {objects.shown}")
        _into_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # while the storage is away, each try would leave one


def keep_beside(objects: Objects, expected: str, path: Path) -> None:
    """Keep a file that belongs to the folder of this digest, by its name."""
    objects.put(f"{_place(expected, BESIDE)}/{path.name}", path)


def fetch_beside(objects: Objects, expected: str, path: Path) -> bool:
    """Bring the file of this name back; False when none was kept."""
    try:
        fetch(objects, f"{_place(expected, BESIDE)}/{path.name}", path)
    except NotFound:
        return False
    return True


def fetch(objects: Objects, key: str, path: Path) -> None:
    """Bring one object to a file, whole or not at all."""
    draft = _draft(path)
    try:
        _fetch(objects, key, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    """One of this thread's own, beside the place it is for."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident():x}.draft")


def _place(expected: str, kind: str = MODELS) -> str:
    return f"{kind}/{expected.replace(':', '-')}"


def _check(path: Path, found: str, expected: str, named: str | None = None) -> None:
    if found != expected:
        raise InvalidData(
            f"{named or path} is damaged or was changed: its content has digest {found}, expected {expected}; "
            "restore it or train again"
        )


def _whole(objects: Objects, prefix: str, expected: str) -> bool:
    """Whether the storage gives back exactly what the digest says."""
    there = {key.removeprefix(f"{prefix}/"): stamp.size for key, stamp in objects.list(prefix).items()}
    names = sorted(there, key=lambda name: name.split("/"))  # as paths are sorted
    return bool(there) and _digest((name, there[name], objects.read(f"{prefix}/{name}")) for name in names) == expected


def _fetch(objects: Objects, key: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for part in objects.read(key):
                file.write(part)
    except OSError as problem:
        raise Unavailable(
            f"{path} cannot be written ({problem.strerror or problem}); free some disk space"
        ) from problem


def _into_place(draft: Path, folder: Path) -> None:
    """By rename; when another process was first, its folder has the same content."""
    try:
        draft.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(draft, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            yield part


def _digest(files: Iterable[tuple[str, int, Iterable[bytes]]]) -> str:
    whole = hashlib.sha256()
    for name, size, parts in files:
        encoded = name.encode()
        whole.update(b"%d:%s %d:" % (len(encoded), encoded, size))
        for part in parts:
            whole.update(part)
    return "sha256:" + whole.hexdigest()
