"""What steps made, by the digest of its bytes: written once, never changed, checked whenever it is read.

A file is complete under its name or not there: it is made beside its place and renamed. Equal bytes are one file,
whoever made them, so two processes may write the same one at once. A file that is not what its name says is taken away,
and the step that made it runs again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trueline.errors import Unavailable


class Damaged(Unavailable):
    """A kept output is gone, or is not what its digest says."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"the kept output {digest[:12]} is missing or damaged; the step that made it runs again")
        self.digest = digest


@dataclass(frozen=True)
class Outputs:
    """The files under one folder."""

    root: Path

    def put(self, write: Callable[[Path], object]) -> tuple[str, int]:
        """Keep what `write` writes to the path it is given; its digest and its size."""
        self.root.mkdir(parents=True, exist_ok=True)
        draft = self.root / f".draft-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            write(draft)
            digest, size = _digest(draft), draft.stat().st_size
            place = self.path(digest)
            place.parent.mkdir(exist_ok=True)
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
        return digest, size

    def put_bytes(self, content: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(content).hexdigest()
        if self.has(digest, len(content)):
            return digest, len(content)
        return self.put(lambda path: path.write_bytes(content))

    def path(self, digest: str) -> Path:
        return self.root / digest[:2] / digest

    def has(self, digest: str, size: int) -> bool:
        """Whether there is a file of that name and size; only reading tells whether it is whole."""
        try:
            return self.path(digest).stat().st_size == size
        except OSError:
            return False

    def checked(self, digest: str) -> Path:
        """Where it is, after reading all of it once.

        Raises:
            Damaged: it is missing, or its bytes are others.
        """
        path = self.path(digest)
        try:
            whole = _digest(path) == digest
        except FileNotFoundError:
            whole = False
        if not whole:
            raise Damaged(digest)
        return path

    def discard(self, digest: str) -> None:
        """Take a damaged one away, so that nobody counts on it."""
        self.path(digest).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.sha256).hexdigest()
