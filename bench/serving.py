"""serve-throughput, serve-echo, serve-native, serve-start: what a CPU second of a server buys, and how soon.

Each server has core 0 for itself and is sent one JSON row of 30 floats per request from core 1, over 32 kept-alive
connections and over one; numeric libraries have one thread. Counted are the CPU seconds of all its processes. trueline has
its journal, its contract check and its metrics on, as always. In each round every server is started, asked 256 rows whose
answers must be the model's, warmed, measured and stopped; they take turns, and the best of all rounds counts.

With `--peers` the other model servers (`peers/__init__.py` says how each is run, and where that is recommended) are
installed once, each in an environment of its own, and measured in the same run. Without, a server written by hand stands
in, and what is said against "the best peer" has no verdict; with them it counts as one more.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

import contest
import cpu
import endpoints
import figures
import models
import scores
import wrk
from contest import BARE, BY_HAND, LIBRARY, NATIVE, SERVED, SYNCED, Plan
from figures import Figure, number
from models import Subject
from peers import PEERS, environments
from scores import Score

CLAIMS = {
    SERVED: "single-row predictions, gradient boosting, journal, contract and metrics on",
    NATIVE: "the same with scikit-learn itself, in a child process",
    SYNCED: "the same with fdatasync for each batch",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    figures.add_options(parser)
    add_options(parser)
    given = parser.parse_args()
    figures.end_in_order()
    plan = plan_of(given)
    found: list[Score] = []
    shown: list[Figure] = []
    for one in measure(plan):
        if given.json:
            print(scores.line(one) if isinstance(one, Score) else figures.line(one), flush=True)
        elif isinstance(one, Score):
            found.append(one)
        else:
            shown.append(one)
    if not given.json:
        print(f"load by {plan.generator}\n\n{scores.table(found)}\n")
        figures.show(shown, as_json=False)


def add_options(parser: argparse.ArgumentParser) -> None:
    names = sorted({peer.environment for peer in PEERS})
    parser.add_argument("--peers", action="store_true", help="install the other model servers and measure them too")
    parser.add_argument("--only", nargs="+", choices=names, metavar="PEER", help=f"of the peers: {', '.join(names)}")
    parser.add_argument("--models", nargs="+", choices=models.SERVED, metavar="MODEL", help=", ".join(models.SERVED))
    parser.add_argument(
        "--cache", type=Path, help="where the peers' environments are kept; default is in the XDG cache"
    )
    parser.add_argument("--rounds", type=int, help="default 3 with peers, otherwise 2")
    parser.add_argument("--seconds", type=float, help="of load over 32 connections; default 3 with peers, otherwise 1")
    parser.add_argument("--generator", choices=(wrk.WRK, wrk.OWN), help="default wrk, where it is installed")


def plan_of(given: argparse.Namespace) -> Plan:
    wanted = given.peers or given.only is not None
    peers = tuple(peer for peer in PEERS if wanted and (given.only is None or peer.environment in given.only))
    every = tuple(models.SERVED) if wanted else (models.BOOSTING,)
    rounds, seconds = (1, 0.3) if given.quick else (3, 3.0) if wanted else (2, 1.0)
    return Plan(
        models=tuple(given.models or every),
        peers=peers,
        cache=given.cache or environments.cache(),
        rounds=given.rounds or rounds,
        seconds=given.seconds or seconds,
        generator=given.generator or wrk.generator(),
        quick=given.quick,
    )


def measure(plan: Plan) -> Iterator[Score | Figure]:
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        for model in plan.models:
            subject = models.subject(model, Path(name) / model.replace(" ", "-"), quick=plan.quick)
            found = contest.contest(subject, plan)
            yield from found
            if model == models.BOOSTING:
                yield from throughput(found, loop_rate(subject, calls=20 if plan.quick else 200), plan)
                yield from starts(found, plan)


def throughput(found: Sequence[Score], loop: float, plan: Plan) -> Iterator[Figure]:
    rates = {one.server: one.rate for one in natural(found) if one.rate is not None}
    best, all_ran = best_peer(plan, {name: -rate for name, rate in rates.items()})
    against_best = (f"{best}, {number(rates[best])}", rates[best])

    def line(id_: str | None, what: str, named: str, other: float, target: str | None, least: float | None) -> Figure:
        ratio = rates[what] / other
        holds = None if least is None else ratio >= least
        claim = f"{CLAIMS[what]}; load by {plan.generator}" if what == SERVED else CLAIMS[what]
        return Figure(id_, claim, rates[what], "answers / CPU-s", named, ratio, target, holds)

    yield line("serve-throughput", SERVED, *against_best, "≥ 15x the best peer", 15 if all_ran else None)
    yield line("serve-echo", SERVED, f"{BARE}, {number(rates[BARE])}", rates[BARE], "≥ 0.35", 0.35)
    yield line("serve-echo", SERVED, f"{LIBRARY}, {number(rates[LIBRARY])}", rates[LIBRARY], None, None)
    yield line("serve-native", NATIVE, *against_best, "≥ 5x the best peer", 5 if all_ran else None)
    yield line("serve-native", NATIVE, f"predict_proba in a loop, without HTTP, {number(loop)}", loop, None, None)
    if SYNCED in rates:
        yield line(None, SYNCED, f"without, {number(rates[SERVED])}", rates[SERVED], None, None)


def starts(found: Sequence[Score], plan: Plan) -> Iterator[Figure]:
    times = {one.server: one.start for one in natural(found) if one.start is not None}
    best, all_ran = best_peer(plan, times)
    took, peer = times[SERVED], times[best]
    claim = "from starting the process to its first prediction"
    yield Figure("serve-start", claim, took, "s wall", target="< 1 s", holds=took < 1)
    against = f"{best}, {number(peer)} s"
    holds = took <= peer / 4 if all_ran else None
    yield Figure("serve-start", claim, took, "s wall", against, took / peer, "≤ 1/4 of the best peer", holds)


def best_peer(plan: Plan, least: dict[str, float]) -> tuple[str, bool]:
    """The peer with the least of something, and whether all peers there are have been measured."""
    names = [peer.name for peer in plan.peers]
    measured = [name for name in names if name in least]
    best = min([*measured, BY_HAND], key=least.__getitem__)
    return best, len(measured) == len(PEERS)


def natural(found: Sequence[Score]) -> list[Score]:
    """Each server over its own endpoint: of those that have two, the plain one."""
    plain = {one.server for one in found if one.endpoint == endpoints.PLAIN}
    return [one for one in found if one.endpoint == endpoints.PLAIN or one.server not in plain]


def loop_rate(subject: Subject, *, calls: int) -> float:
    """Single rows per CPU second in a plain loop, on the same one core and thread."""
    rows = subject.frame.head(models.ASKED)
    frames = [rows[place] for place in range(rows.height)]

    def loop() -> None:
        for call in range(calls):
            subject.estimator.predict_proba(frames[call % len(frames)])

    with cpu.pinned(0), threadpool_limits(1):
        return calls / min(cpu.of_call(loop) for _ in range(3))


if __name__ == "__main__":
    main()
