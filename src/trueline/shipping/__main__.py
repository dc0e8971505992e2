"""`python -m trueline.shipping`: brings what one server wrote in its journal to the tables."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from trueline.errors import TruelineError
from trueline.settings import StateFolder
from trueline.shipping.service import serve
from trueline.storage.places import Storage, open_storage

ORPHAN_SECONDS = 2.0


async def _run(state: StateFolder, replica: str, storage: Storage) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stopping.set)
    orphaned = loop.create_task(_orphaned(stopping))
    await serve(state, replica, stopping, storage)
    orphaned.cancel()


async def _orphaned(stopping: asyncio.Event) -> None:
    """End with the supervisor that started us, however it died."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(ORPHAN_SECONDS)
    stopping.set()


def main(given: Sequence[str] | None = None) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m trueline.shipping", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the state folder (.trueline)")
    parser.add_argument("--replica", default="r0", help="whose journal to ship")
    parser.add_argument("--storage", help="where tables and segments go (s3://bucket/prefix); else the state folder")
    arguments = parser.parse_args(given)
    try:
        state = StateFolder(arguments.state).create()
        asyncio.run(_run(state, arguments.replica, open_storage(arguments.storage, state)))
    except TruelineError as problem:
        print(problem, file=sys.stderr)  # noqa: T201  one sentence for whoever started us
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
