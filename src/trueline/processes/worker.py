"""The worker: trains, judges at gates, evaluates blocks, and brings runs to the tracking store.

Several may run against one database; each piece of work is leased, so a dead worker's work is taken over.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from trueline.errors import TruelineError
from trueline.processes.looping import log_to_stderr, rounds, stop_on_signals
from trueline.settings import StateFolder
from trueline.sockets import Bell, dead, ring
from trueline.wiring import open_context
from trueline.wiring.working import Worker

POLL_SECONDS = 0.5


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trueline.processes.worker", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--target")
    parser.add_argument("--replay", action="store_true")
    given = parser.parse_args(arguments)
    log_to_stderr()
    stopping = stop_on_signals()
    folder = StateFolder(given.state)
    try:
        context = open_context(
            given.project, given.state, target=given.target, replay=given.replay, actor=f"worker-{os.getpid()}"
        )
        for left in dead(folder.sockets, "worker-*"):
            left.unlink(missing_ok=True)
        bell = Bell(folder.bell(context.actor))
        worker = Worker(context)
    except TruelineError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    worker.warm()
    worker.feed_tracking()
    bells = bell.path.parent

    def step() -> bool:
        busy = worker.step()
        if busy:
            ring(bells, "control-*")
        return busy

    rounds(step, bell.wait, stopping, POLL_SECONDS)
    worker.close()
    bell.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
