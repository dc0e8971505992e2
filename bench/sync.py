"""sync: what `--sync` costs, which has each batch on the disk (fdatasync) before it is answered: CPU and latency.

The same server with and without it, in turns, on whatever disk the temporary folder lies on. Requests that arrive
together are one batch and share one fdatasync, so that many connections pay little each and a lone one pays it all.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import load
import models
from figures import Figure, tell
from load import Sent
from models import Subject
from servers import Server
from trueline.domain import routes
from trueline.domain.routes import Arm, Route, RouteTable
from trueline.journal.records import LabelRecord
from trueline.journal.segments import Writer
from trueline.settings import StateFolder
from trueline.sockets import ask

CONNECTIONS = (1, 32)


def measure(*, quick: bool) -> Iterator[Figure]:
    rounds, seconds = (1, 0.5) if quick else (5, 3.0)
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        folder = Path(name)
        model = models.boosting(folder, quick=quick)
        yield Figure(None, "one fdatasync of a small batch, median", flush(folder), "ms")
        with ExitStack() as stack:
            plain = stack.enter_context(_served(folder / "plain", model))
            synced = stack.enter_context(_served(folder / "synced", model, "--sync"))
            for connections in CONNECTIONS:
                yield from compared(plain, synced, model, connections, rounds, seconds)


def compared(
    plain: Server, synced: Server, model: Subject, connections: int, rounds: int, seconds: float
) -> Iterator[Figure]:
    best: dict[str, list[tuple[float, Sent]]] = {"plain": [], "synced": []}
    for _ in range(rounds):
        for name, server in (("plain", plain), ("synced", synced)):
            before = server.cpu_seconds()
            sent = load.send(server.port, "/predict", model.bodies, connections=connections, seconds=seconds)
            best[name].append(((server.cpu_seconds() - before) / max(sent.answered, 1) * 1e6, sent))
    at = f"at {connections} connection{'s' * (connections > 1)}"
    for what, unit, pick in (
        ("CPU of a request", "µs", lambda one: one[0]),
        ("p50", "ms", lambda one: one[1].p50),
        ("p99", "ms", lambda one: one[1].p99),
    ):
        without, with_it = min(map(pick, best["plain"])), min(map(pick, best["synced"]))
        yield Figure(None, f"{what} {at} with --sync", with_it, unit, f"{without:.3g} without", with_it / without)


def flush(folder: Path, times: int = 200) -> float:
    """Milliseconds of one append with fdatasync."""
    record = LabelRecord("l", "p", 1.0, 1, 1, "bench", None)
    taken = []
    with Writer(folder / "journal", sync=True) as writer:
        for _ in range(times):
            before = time.perf_counter()
            writer.append([record])
            taken.append(time.perf_counter() - before)
    return sorted(taken)[times // 2] * 1e3


def _served(root: Path, model: Subject, *options: str) -> Server:
    state = StateFolder(root).create()
    server = Server(["-m", "trueline.serving", "--state", str(state.root), "--port", "0", *options], state=state)
    packaged = model.again(root / "model")
    champion = Route(1, Arm.champion, 1.0, str(packaged.folder), packaged.digest)
    message = {"op": "route", "table": routes.encode(RouteTable(1, "bench", (champion,), salt="s"))}
    ask(state.socket("serve-r0"), message, timeout=60)
    return server


if __name__ == "__main__":
    tell(measure, __doc__)
