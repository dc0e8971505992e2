"""A server on a copy of the project, the history lived through against it, and what it came to."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from trueline.client import Client
from trueline.projectfile import load
from trueline.replaying import history as histories
from trueline.replaying.history import History
from trueline.replaying.living import Living, Watcher
from trueline.replaying.outcome import Outcome, account
from trueline.replaying.server import Server, Work
from trueline.replaying.wire import Wire

INCIDENTS = 1000


@dataclass(frozen=True)
class Kept:
    """What is left running."""

    folder: Path
    pid: int
    page: str


def replay(
    project_file: Path,
    target: str | None,
    watching: Callable[[History], AbstractContextManager[Watcher]],
    *,
    begins: datetime | None,
    until: datetime | None,
    tick: timedelta,
    delay: timedelta | None,
    keep: bool,
) -> tuple[Outcome, Kept | None]:
    """Live through the project's own history; the project and its state are left as they are.

    `delay` is how long after a prediction its label arrives; half of what the project expects unless it is given.
    """
    began = time.monotonic()
    project, root = load(project_file, target), project_file.resolve().parent
    history = histories.read(project, root, begins, until)
    folder = Path(tempfile.mkdtemp(prefix="trueline-replay-"))
    left: Kept | None = None
    try:
        histories.settle(project, root, history, folder)
        histories.keep_to_itself(folder / project_file.name)
        work = Work(folder)
        server = Server(work, project_file.name, target)
        try:
            serving = server.wait()
            wire = Wire(serving.serve)
            with Client.connect(work.state) as client, watching(history) as watcher:
                wait = project.monitor.labels.expect_after / 2 if delay is None else delay
                living = Living(client, wire, history, watcher, tick, wait)
                living.run()
                wire.close()
                outcome = _outcome(client, work, living, began)
            if keep:
                left = Kept(folder, server.pid, serving.control)
        finally:
            if left is None:
                server.stop()
    finally:
        if left is None:
            shutil.rmtree(folder, ignore_errors=True)
    return outcome, left


def _outcome(client: Client, work: Work, living: Living, began: float) -> Outcome:
    first = client.version(1)
    model = work.state.run(first.run) / "model"
    incidents = client.incidents(limit=INCIDENTS).items
    return account(living, model, first.digest, first.task, incidents, time.monotonic() - began)
