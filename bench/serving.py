"""Single-row predictions over HTTP: what one CPU second of a server buys, and how soon the first one comes.

Every server runs alone on one core and is sent the same rows (30 floats as one JSON object) over 32 kept-alive
connections from another core. trueline has its contract check, its journal and its metrics on, as always. The rounds go in
turns over all servers; each server's best round counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import boosting
import cpu
import measurement
import traffic
from measurement import Measurement
from servers import Peer, Server, Trueline

CONNECTIONS = 32
UNIT = "answers / CPU-s"
SERVED, NATIVE, BARE, LIBRARY, BY_HAND = "trueline", "native", "bare Protocol", "uvicorn + Starlette", "by hand"
LOOP = "scikit-learn in a loop"


def measure(quick: bool) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        folder = Path(name)
        model = boosting.make(folder, quick=quick)
        programs: dict[str, Trueline | Peer] = {
            SERVED: Trueline(folder / "state", model.onnx),
            NATIVE: Trueline(folder / "state-native", model.native(folder / "native")),
            BARE: Peer("bare_protocol.py"),
            LIBRARY: Peer("starlette_server.py"),
            BY_HAND: Peer("starlette_server.py", model.pickled),
        }
        rates = throughput(programs, model.bodies, seconds=0.3 if quick else 1.0, rounds=1 if quick else 3)
        rates[LOOP] = loop_rate(model, calls=20 if quick else 200)
        yield from told(rates)
        times = {one: first_answer(programs[one], model.bodies, times=1 if quick else 3) for one in (SERVED, BY_HAND)}
        yield from starts(times)


def told(rates: Mapping[str, float]) -> Iterator[Measurement]:
    def line(claim: str, what: str, against: str, shown: str, **more: object) -> Measurement:
        return Measurement(claim, rates[what], UNIT, shown, rates[what] / rates[against], **more)  # type: ignore[arg-type]

    bare, library = f"a bare Protocol's echo, {_k(rates[BARE])}", f"uvicorn + Starlette echo, {_k(rates[LIBRARY])}"
    by_hand = f"scikit-learn behind Starlette by hand, {_k(rates[BY_HAND])}"
    loop = f"scikit-learn's predict_proba in a loop, no HTTP, {_k(rates[LOOP])}"
    holds = rates[SERVED] >= 0.35 * rates[BARE]
    yield line("journalled predictions", SERVED, BY_HAND, by_hand, id="serve-throughput", target="≥ 15x the best peer")
    yield line("cost of everything but HTTP", SERVED, BARE, bare, id="serve-echo", target="≥ 0.35", holds=holds)
    yield line("beside a library server's echo", SERVED, LIBRARY, library, id="serve-echo")
    yield line("scikit-learn in a child", NATIVE, BY_HAND, by_hand, id="serve-native", target="≥ 5x the best peer")
    yield line("scikit-learn in a child", NATIVE, LOOP, loop, id="serve-native")


def starts(times: Mapping[str, float]) -> Iterator[Measurement]:
    took, peer = times[SERVED], times[BY_HAND]
    claim = "start to first prediction, wall"
    yield Measurement(claim, took, "s", target="< 1 s", holds=took < 1, id="serve-start")
    by_hand = f"scikit-learn behind Starlette by hand, {measurement.number(peer)} s"
    yield Measurement(claim, took, "s", by_hand, took / peer, "≤ 1/4 of the best peer's", id="serve-start")


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
    sent = traffic.send(server.port, "/predict", bodies, connections=CONNECTIONS, seconds=seconds)
    used = server.cpu_seconds() - before
    if sent.failed:
        raise RuntimeError(f"{sent.failed} of {sent.answered + sent.failed} requests failed")
    return sent.answered / max(used, cpu.TICK)


def loop_rate(model: boosting.Boosting, *, calls: int) -> float:
    """Single rows per CPU second in a plain loop, on the same one core and thread."""
    rows = model.rows.head(boosting.DIFFERENT_ROWS)
    frames = [rows[number] for number in range(rows.height)]

    def loop() -> None:
        for number in range(calls):
            model.estimator.predict_proba(frames[number % len(frames)])

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


def _k(rate: float) -> str:
    return measurement.number(rate)


if __name__ == "__main__":
    sys.exit(measurement.script(__doc__, measure))
