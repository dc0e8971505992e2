"""Five times the load a model can take: what those hear who are let in, what the others hear, and how soon it is over.

Requests come open-loop from another process: half of what the model can take, then five times as much as it can, then
half again. Beside it: what a fast version in the server answers while a version in a child process sleeps in each batch.
`python bench/overload.py [--quick]`; times are wall times on whatever else this machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import openloop
from openloop import Reply

OK = 200
REFUSED = (429, 503)
MODELS = {  # where, what a batch of n rows does, and the requests per second it can answer
    "1 ms a row, in the server": ("in", "time.sleep(0.0002 + 0.001 * n)", 800.0),
    "1 ms a row, in a child": ("child", "time.sleep(0.0002 + 0.001 * n)", 700.0),
    "5 ms a row, in the server": ("in", "time.sleep(0.0002 + 0.005 * n)", 180.0),
    "5 ms a row, in a child": ("child", "time.sleep(0.0002 + 0.005 * n)", 180.0),
    "20 ms a batch and 2 ms a row, in a child": ("child", "time.sleep(0.020 + 0.002 * n)", 300.0),
    "20 ms a row, in a child": ("child", "time.sleep(0.0002 + 0.020 * n)", 45.0),
}
SERVER = """
import asyncio, json, socket, sys, time
from pathlib import Path
import numpy as np
import uvloop
sys.path.append({tests!r})
from serving_world import CHILD, SIGNATURE, Fake, Running, route, table
from trueline.domain.routes import Arm
from trueline.serving.server import Config
from trueline.settings import StateFolder

def slow(columns):
    n = len(columns["x"])
    {sleep}
    return np.array(columns["x"], dtype=float)

models = {models}
running = Running(Config(state=StateFolder(Path({state!r})).create(), port=0), models)
running.start()
running._script.write_text(CHILD.replace('x = columns["x"]', 'x = columns["x"]; n = len(x); {sleep}'))
answer = running.put(table(routes={routes}))
assert answer["ok"], answer
print(json.dumps({{"port": running.port}}), flush=True)
sys.stdin.read()
running.stop()
"""
TESTS = Path(__file__).resolve().parent.parent / "tests" / "serving"


class Server:
    """A serving process with made-up models, which sleep as long as they are told."""

    def __init__(self, folder: Path, models: str, routes: str, sleep: str) -> None:
        code = SERVER.format(tests=str(TESTS), sleep=sleep, models=models, routes=routes, state=str(folder / "state"))
        script = folder / "server.py"
        script.write_text(code)
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start; the reason is above")
        self.port = int(json.loads(line)["port"])

    def close(self) -> None:
        self._process.communicate("", timeout=30)


def p(share: float, latencies: Sequence[float]) -> float:
    """A quantile in milliseconds."""
    ordered = sorted(latencies)
    return 1000 * ordered[int(share * (len(ordered) - 1))] if ordered else float("nan")


def overload(name: str, seconds: float) -> None:
    where, sleep, capacity = MODELS[name]
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as folder:
        models = "{1: Fake(1, slow)}" if where == "in" else '{1: "child"}'
        server = Server(Path(folder), models, "(route(1),)", sleep)
        try:
            plan = [(capacity / 2, seconds), (5 * capacity, seconds), (capacity / 2, max(seconds, 7.0))]
            replies = openloop.finish(openloop.start(server.port, "/predict", plan, b'{"x":1.5,"n":2}'))
        finally:
            server.close()
    tell(name, replies, seconds)


def tell(name: str, replies: Sequence[Reply], seconds: float) -> None:
    normal = [one.latency for one in replies if one.due < seconds and one.status == OK]
    during = [one for one in replies if seconds <= one.due < 2 * seconds]
    taken = [one.latency for one in during if one.status == OK]
    refused = [one.latency for one in during if one.status in REFUSED]
    others = sum(one.status != OK and one.status not in REFUSED for one in replies)
    bad = [one for one in replies if one.due >= 2 * seconds and not good(one, p(0.99, normal))]
    print(f"{name}")
    print(
        f"  usual    p50 {p(0.5, normal):8.1f} ms  p99 {p(0.99, normal):8.1f} ms  {len(normal) / seconds:6.0f} answers/s"
    )
    print(
        f"  overload p50 {p(0.5, taken):8.1f} ms  p99 {p(0.99, taken):8.1f} ms  {len(taken) / seconds:6.0f} answers/s"
        f"  {p(0.99, taken) / p(0.99, normal):.1f}x the usual p99"
    )
    print(
        f"  refused {len(refused) / len(during):.0%} with Retry-After, in p50 {p(0.5, refused):.1f} ms,"
        f" p99 {p(0.99, refused):.1f} ms; anything else: {others}"
    )
    print(
        f"  over: usual again {max((one.due - 2 * seconds for one in bad), default=0.0):.2f} s after it ends",
        flush=True,
    )


def good(reply: Reply, usual_ms: float) -> bool:
    """Answered, and about as soon as usual: what one slow answer of the machine itself is not taken for."""
    return reply.status == OK and 1000 * reply.latency <= 4 * usual_ms


def beside(seconds: float) -> None:
    """A fast version in the server while one in a child sleeps half a second in each batch."""
    for name, weight in (("alone", 0.0), ("beside a version that sleeps 0.5 s in each batch", 0.02)):
        with tempfile.TemporaryDirectory(prefix="trueline-bench-") as folder:
            routes = f"(route(1, weight={1 - weight}), route(2, Arm.canary, {weight}))"
            server = Server(Path(folder), '{1: Fake(1), 2: "child"}', routes, "time.sleep(0.5)")
            try:
                plan = [(400.0, seconds)]
                replies = openloop.finish(openloop.start(server.port, "/predict", plan, b'{"x":1.5,"n":2}'))
            finally:
                server.close()
        ordered = sorted(one.latency for one in replies if one.status == OK)
        fast = ordered[: int(len(ordered) * (1 - 1.5 * weight))]
        print(
            f"fast version {name}: p50 {p(0.5, fast):.1f} ms, p99 {p(0.99, fast):.1f} ms; slowest of all"
            f" {1000 * ordered[-1]:.0f} ms; failed {len(replies) - len(ordered)}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three seconds of each instead of ten")
    given = parser.parse_args()
    seconds = 3.0 if given.quick else 10.0
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in MODELS:
        overload(name, seconds)
    beside(seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
