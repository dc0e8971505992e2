"""`python -m trueline.shipping`: brings what the servers of one machine wrote in their journals to the tables.

`--mend` is for a person, after a disk has damaged a segment: shipping stops there until the file is put back or mended.
"""

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
from trueline.journal import segments
from trueline.settings import REPLICA, StateFolder
from trueline.shipping.service import serve
from trueline.storage.places import Storage, open_storage

ORPHAN_SECONDS = 2.0


async def _run(state: StateFolder, replicas: Sequence[str], storage: Storage) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stopping.set)
    orphaned = loop.create_task(_orphaned(stopping))
    await asyncio.gather(*(serve(state, replica, stopping, storage) for replica in replicas))
    orphaned.cancel()


async def _orphaned(stopping: asyncio.Event) -> None:
    """End with the supervisor that started us, however it died."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(ORPHAN_SECONDS)
    stopping.set()


def _mend(journal: Path) -> None:
    found = False
    for number in segments.sealed(journal):
        mended = segments.mend(journal, number)
        if mended is not None:
            found = True
            say(
                f"{segments.path_of(journal, number)}: {mended.records} records are kept, {mended.bytes_lost} bytes are not "
                f"readable; as it was, it lies in {mended.copy}"
            )
    if not found:
        say(f"no sealed segment in {journal} is damaged")


def say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")


def main(given: Sequence[str] | None = None) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m trueline.shipping", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the state folder (.trueline)")
    parser.add_argument("--replica", action="append", help="whose journal to ship, r0 by default; may be given again")
    parser.add_argument("--storage", help="where tables and segments go (s3://bucket/prefix); else the state folder")
    parser.add_argument("--mend", action="store_true", help="keep what is whole in damaged segments, and end")
    arguments = parser.parse_args(given)
    replicas: list[str] = arguments.replica or [REPLICA]
    try:
        state = StateFolder(arguments.state).create()
        if arguments.mend:
            for replica in replicas:
                _mend(state.journal(replica))
            return 0
        asyncio.run(_run(state, replicas, open_storage(arguments.storage, state)))
    except TruelineError as problem:
        print(problem, file=sys.stderr)  # noqa: T201  one sentence for whoever started us
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
