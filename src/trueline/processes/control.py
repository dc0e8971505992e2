"""The control process: the API, and the controllers that bring the world towards what the rows say."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
from pathlib import Path

from trueline.errors import TruelineError
from trueline.processes.looping import log, log_to_stderr, rounds, stop_on_signals
from trueline.security import tokens
from trueline.security.people import People
from trueline.settings import StateFolder
from trueline.sockets import Bell, dead
from trueline.web.server import ApiServer
from trueline.wiring import open_context
from trueline.wiring.controllers import Controllers
from trueline.wiring.services import LocalServices

POLL_SECONDS = 0.5


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trueline.processes.control", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--target")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7077)
    parser.add_argument("--replay", action="store_true")
    given = parser.parse_args(arguments)
    log_to_stderr()
    stopping = stop_on_signals()
    folder = StateFolder(given.state)
    try:
        context = open_context(given.project, given.state, target=given.target, replay=given.replay, actor="control")
        for left in dead(folder.sockets, "control-*"):
            left.unlink(missing_ok=True)
        bell = Bell(folder.bell(f"control-{os.getpid()}"))
        controllers = Controllers(context)
        services = LocalServices(context, controllers, replaying=given.replay)
        with ApiServer(services, given.host, given.port, tokens.read(folder.token), People(folder.people)) as api:
            log.info("control listens on %s", api.url)
            gc.collect()
            gc.freeze()  # a collection that looks at every library too takes 100 ms, in the middle of a rollback maybe
            loop = threading.Thread(
                target=rounds,
                args=(controllers.step, bell.wait, stopping, POLL_SECONDS),
                name="controllers",
                daemon=True,
            )
            loop.start()
            threading.Thread(target=controllers.leadership.keep, args=(stopping,), name="lease", daemon=True).start()
            while loop.is_alive() and not stopping.wait(0.5):
                pass
            stopping.set()
            loop.join(timeout=10)
        services.close()
        bell.close()
    except TruelineError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
