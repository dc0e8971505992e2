"""serve-throughput, serve-echo, serve-native, serve-start: what a CPU second of the server buys, and how soon.

Every server runs alone on one core and is sent the same rows (30 floats as one JSON object) over 32 kept-alive
connections from another core. trueline has its contract check, its journal and its metrics on, as always. The rounds go in
turns over all servers; each server's best round counts. The peers of DESIGN.md §7 are not installed; a server written by
hand stands in, without a verdict.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import cpu
import load
import models
from figures import Figure, number, tell
from servers import Peer, Server, Trueline

CONNECTIONS = 32
SERVED, NATIVE, BARE, LIBRARY, BY_HAND, LOOP = "served", "native", "bare", "library", "by hand", "loop"
CLAIMS = {
    SERVED: "single-row predictions, gradient boosting (ONNX), journal, contract and metrics on",
    NATIVE: "the same with scikit-learn itself, in a child process",
}


def measure(*, quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        folder = Path(name)
        model = models.boosting(folder, quick=quick)
        programs: dict[str, Trueline | Peer] = {
            SERVED: Trueline(folder / "state", model.onnx),
            NATIVE: Trueline(folder / "state-native", model.native(folder / "native")),
            BARE: Peer("echo.py"),
            LIBRARY: Peer("peers/starlette_server.py"),
            BY_HAND: Peer("peers/starlette_server.py", model.pickled),
        }
        rates = throughput(programs, model.bodies, seconds=0.3 if quick else 1.0, rounds=1 if quick else 3)
        rates[LOOP] = loop_rate(model, calls=20 if quick else 200)
        yield from told(rates)
        times = {one: first_answer(programs[one], model.bodies, times=1 if quick else 3) for one in (SERVED, BY_HAND)}
        yield from starts(times)


def told(rates: Mapping[str, float]) -> Iterator[Figure]:
    def line(id_: str, what: str, beside: str, named: str, target: str | None, *, holds: bool | None = None) -> Figure:
        against = f"{named}, {number(rates[beside])}"
        return Figure(
            id_, CLAIMS[what], rates[what], "answers / CPU-s", against, rates[what] / rates[beside], target, holds
        )

    by_hand = "scikit-learn behind Starlette, by hand"
    holds = rates[SERVED] >= 0.35 * rates[BARE]
    yield line("serve-throughput", SERVED, BY_HAND, by_hand, "≥ 15x the best peer")
    yield line("serve-echo", SERVED, BARE, "a bare Protocol's echo", "≥ 0.35", holds=holds)
    yield line("serve-echo", SERVED, LIBRARY, "uvicorn + Starlette's echo", None)
    yield line("serve-native", NATIVE, BY_HAND, by_hand, "≥ 5x the best peer")
    yield line("serve-native", NATIVE, LOOP, "predict_proba in a loop, without HTTP", None)


def starts(times: Mapping[str, float]) -> Iterator[Figure]:
    took, peer = times[SERVED], times[BY_HAND]
    claim = "from starting the process to its first prediction"
    yield Figure("serve-start", claim, took, "s wall", target="< 1 s", holds=took < 1)
    against = f"scikit-learn behind Starlette, by hand, {number(peer)} s"
    yield Figure("serve-start", claim, took, "s wall", against, took / peer, "≤ 1/4 of the best peer")


def throughput(
    programs: Mapping[str, Trueline | Peer], bodies: Path, *, seconds: float, rounds: int
) -> dict[str, float]:
    """Answers per CPU second of each program, in its best round."""
    best = dict.fromkeys(programs, 0.0)
    with ExitStack() as stack:
        running = {name: stack.enter_context(program.start()) for name, program in programs.items()}
        for server in running.values():
            answers_per_cpu_second(server, bodies, seconds / 2)  # warm
        for _ in range(rounds):
            for name, server in running.items():
                best[name] = max(best[name], answers_per_cpu_second(server, bodies, seconds))
    return best


def answers_per_cpu_second(server: Server, bodies: Path, seconds: float) -> float:
    before = server.cpu_seconds()
    sent = load.send(server.port, "/predict", bodies, connections=CONNECTIONS, seconds=seconds)
    used = server.cpu_seconds() - before
    if sent.failed:
        raise RuntimeError(f"{sent.failed} of {sent.answered + sent.failed} requests failed")
    return sent.answered / max(used, cpu.TICK)


def loop_rate(model: models.Boosting, *, calls: int) -> float:
    """Single rows per CPU second in a plain loop, on the same one core and thread."""
    rows = model.frame.head(256)
    frames = [rows[place] for place in range(rows.height)]

    def loop() -> None:
        for call in range(calls):
            model.estimator.predict_proba(frames[call % len(frames)])

    with cpu.pinned(0):
        return calls / min(cpu.of_call(loop) for _ in range(3))


def first_answer(program: Trueline | Peer, bodies: Path, *, times: int) -> float:
    """Seconds from starting the process to its first prediction, the best of a few."""
    body = bodies.read_bytes().splitlines()[0]
    best = float("inf")
    for _ in range(times):
        with program.start() as server:
            server.ask(body)
            best = min(best, time.perf_counter() - server.started)
    return best


if __name__ == "__main__":
    tell(measure, __doc__)
