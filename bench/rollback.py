"""rollback: rolling back under load, from the decision to the last serving process's acknowledgement, and what callers notice.

Two real serving processes answer requests all the while. A rollback is what control does: the champion is moved and the
new route table written with its intent in one transaction, then delivered to every process and confirmed. Each takes the
road a controller takes once its bell has rung; the worst of them counts.
"""

from __future__ import annotations

import gc
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import load
import models
from figures import Figure, tell
from models import Subject
from servers import Server
from trueline.clock import SystemClock
from trueline.control import endpoints
from trueline.domain.versions import VERSIONS, VersionEvent
from trueline.packaging.build import Packaged
from trueline.releases import delivery
from trueline.settings import StateFolder
from trueline.sockets import ask
from trueline.store import moves, tables
from trueline.store.engine import Store, open_store

PROJECT = "bench"
REPLICAS = ("r0", "r1")
CONNECTIONS = 8
LONGEST = 60.0


def measure(*, quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        folder = Path(name)
        model = models.boosting(folder, quick=quick)
        times, answered, failed = rolled_back(folder / "state", model, times=3 if quick else 20)
    worst = max(times) * 1e3
    claim = f"decision to the acknowledgement of the last of {len(REPLICAS)} processes, slowest of {len(times)}"
    yield Figure("rollback", claim, worst, "ms", target="< 100 ms", holds=worst < 100)
    claim = f"requests that failed meanwhile, of {answered + failed:,}"
    yield Figure("rollback", claim, failed, "requests", target="0", holds=failed == 0 < answered)


def rolled_back(root: Path, model: Subject, *, times: int) -> tuple[list[float], int, int]:
    """Wall seconds of each rollback, requests answered and failed meanwhile."""
    state = StateFolder(root).create()
    store = open_store(state.database, SystemClock())
    for version in (1, 2):
        state.run(f"run-{version}").mkdir(parents=True)
        _register(store, version, model.again(state.run(f"run-{version}") / "model"))
    with ExitStack() as stack:
        stack.callback(store.close)
        running = [stack.enter_context(_serve(state, replica)) for replica in REPLICAS]
        for version in (1, 2):  # both loaded, as after a canary
            _route_to(store, state, version)
        senders = [
            load.start(one.port, "/predict", model.bodies, connections=CONNECTIONS, seconds=LONGEST) for one in running
        ]
        stack.callback(lambda: [one.kill() for one in senders if one.poll() is None])
        _under_way(state)
        body = model.bodies.read_bytes().splitlines()[0]
        taken = []
        gc.collect()
        gc.freeze()  # as control does when it starts
        for version in itertools.islice(itertools.cycle((1, 2)), times):
            taken.append(_route_to(store, state, version))
            assert all(json.loads(one.ask(body))["version"] == version for one in running)
        sent = [load.finish(one) for one in senders]
    return taken, sum(one.answered for one in sent), sum(one.failed for one in sent)


def _serve(state: StateFolder, replica: str) -> Server:
    command = ["-m", "trueline.serving", "--state", str(state.root), "--replica", replica, "--port", "0"]
    return Server(command, state=state)


def _register(store: Store, version: int, packaged: Packaged) -> None:
    with store.begin() as tx:
        values = {
            "id": f"{PROJECT}/{version}",
            "project": PROJECT,
            "number": version,
            "run": f"run-{version}",
            "digest": packaged.digest,
            "executor": packaged.kind,
            "task": "classification",
            "parity": {},
            "metrics": {},
            "summary": {},
            "trained_from": tx.now,
            "trained_to": tx.now,
            "purpose": "manual",
            "created_at": tx.now,
        }
        moves.create(tx, tables.versions, VERSIONS, values, actor=PROJECT, reason="to be served")
        moves.move(tx, tables.versions, VERSIONS, values["id"], VersionEvent.approve, actor=PROJECT, reason="likewise")


def _route_to(store: Store, state: StateFolder, version: int) -> float:
    started = time.perf_counter()
    with store.begin() as tx:
        endpoints.crown(tx, PROJECT, version)
        epoch = endpoints.route(tx, PROJECT, state, None, actor=PROJECT, reason="rolled back")
    assert delivery.deliver(store, state, PROJECT)
    took = time.perf_counter() - started
    with store.read() as tx:
        assert endpoints.get(tx, PROJECT).acknowledged == epoch
    return took


def _under_way(state: StateFolder) -> None:
    """Wait until every process has answered something."""
    deadline = time.monotonic() + LONGEST
    while not all(ask(path, {"op": "status"})["predictions"] for path in delivery.serving_sockets(state)):
        if time.monotonic() > deadline:
            raise TimeoutError("the servers answered nothing")
        time.sleep(0.05)


if __name__ == "__main__":
    tell(measure, __doc__)
