"""What every fresh process of a run does before and around the user's code, a whole `fit` or one step of a pipeline."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from trueline.tracking.recording import recording


@contextmanager
def recorded(folder: Path, run: str | None = None) -> Iterator[None]:
    """The one place around the user's code: what it logs, by `trueline.log` or `mlflow.*`, lands in its run.

    It is kept in the folder, a run's own or that of one of its steps: what an earlier attempt left there is gone.
    """
    with recording(folder, run or folder.name):
        yield


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """The same draws and the same number of threads each time."""
    sys.dont_write_bytecode = True  # edited code of the same second and length must not meet an old cache
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  estimators without a random_state draw from the global generator
    with threadpool_limits(threads):
        yield


def send_output_to(path: Path) -> None:
    """Make standard output and error this file, for Python and for libraries that print from C."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
