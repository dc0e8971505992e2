"""A small disk that can be filled to its last byte: a file system of its own, where we may mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTE = 1 << 20


def mountable() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def disk(kind: str, folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of that size: `tmpfs`, or `ext4` in a file of its own."""
    place = folder / f"mounted-{kind}"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs"]
    if kind == "ext4":
        image = folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(megabytes * MEGABYTE)
        run("mkfs.ext4", "-q", "-m", "0", str(image))
        options = ["-o", "loop", str(image)]
    run("mount", *options, str(place))
    try:
        yield place
    finally:
        run("umount", "-l", str(place))


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def fill(path: Path) -> None:
    """Take every byte that is left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    size = MEGABYTE
    try:
        while size:
            try:
                os.write(descriptor, bytes(size))
            except OSError:
                size //= 4
                os.fsync(descriptor)
    finally:
        os.close(descriptor)
