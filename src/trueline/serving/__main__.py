"""`python -m trueline.serving`: one model server process."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path

import uvloop

from trueline.errors import TruelineError
from trueline.serving.limits import Limits
from trueline.serving.server import Config, Server
from trueline.settings import StateFolder

ORPHAN_SECONDS = 2.0


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trueline.serving", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the state folder (.trueline)")
    parser.add_argument("--replica", default="r0", help="name of this process; its journal is journal/<replica>/")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; beyond loopback a token is needed")
    parser.add_argument("--port", type=_port, default=8080, help="0 takes any free port and prints it")
    parser.add_argument(
        "--grpc-port", type=_port, help="speak Open Inference over gRPC there too; needs trueline[grpc]"
    )
    parser.add_argument("--group", help="share the port with the other processes of this name, and count together")
    parser.add_argument("--sync", action="store_true", help="have each batch on the disk before it is answered")
    parser.add_argument("--no-pickle", action="store_true", help="load no model that holds a pickled object")
    parser.add_argument("--require-signature", action="store_true", help="load signed models only")
    parser.add_argument("--replay", action="store_true", help="let requests say when they happened")
    parser.add_argument(
        "--deadline", type=_seconds, default=Limits.batch_seconds, help="seconds for a batch in a child process"
    )
    return parser.parse_args(given)


def _seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a deadline: those are above 0 and at most 3600 seconds")
    return seconds


def _port(text: str) -> int:
    if not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: those go from 0 to 65535")
    return int(text)


async def _serve(config: Config) -> None:
    parent = os.getppid()
    server = Server(config)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stopped.set)
    url = await _unless(stopped, server.start())
    if url is None:
        return
    told = {"url": url, "replica": config.replica, "pid": os.getpid()} | ({"grpc": server.grpc} if server.grpc else {})
    print(json.dumps(told), flush=True)  # noqa: T201  stdout is data
    _spare_the_collector()
    orphaned = loop.create_task(_orphaned(parent, stopped))
    await stopped.wait()
    orphaned.cancel()
    await server.stop()


async def _unless(stopped: asyncio.Event, start: Coroutine[None, None, str]) -> str | None:
    """What starting gives; None when the process is to end before it has, for a model may take a minute to load."""
    starting, stopping = asyncio.ensure_future(start), asyncio.ensure_future(stopped.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    await asyncio.wait((starting,))
    return None


def _spare_the_collector() -> None:
    """Requests make many short-lived lists and no cycles: let the collector look rarely, and never at what stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _orphaned(parent: int, stopped: asyncio.Event) -> None:
    """End with the supervisor that started us, however it died."""
    while os.getppid() == parent:  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(ORPHAN_SECONDS)
    stopped.set()


def main(given: Sequence[str] | None = None) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    arguments = _arguments(given)
    try:
        config = Config(
            state=StateFolder(arguments.state).create(),
            replica=arguments.replica,
            host=arguments.host,
            port=arguments.port,
            replay=arguments.replay,
            limits=Limits(batch_seconds=arguments.deadline),
            grpc_port=arguments.grpc_port,
            group=arguments.group,
            sync=arguments.sync,
            require_signature=arguments.require_signature,
            pickle=not arguments.no_pickle,
            trace_faults=True,
        )
        uvloop.run(_serve(config))
    except TruelineError as problem:
        print(problem, file=sys.stderr)  # noqa: T201  one sentence for whoever started us
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
