"""Servers measured one at a time, in turns: each round starts one, checks its answers, loads it, and stops it.

Nothing else runs meanwhile, so no server pays for another's idling. A server is not measured that answers anything else
than the model, or fails a request; ours must not, of the others it is told.
"""

from __future__ import annotations

import functools
import http.client
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

import cpu
import endpoints
import models
import wrk
from endpoints import Endpoint
from figures import number
from load import CORE, Sent
from models import Subject
from peers import NotPrepared, Peer, Site, environments
from scores import Score
from servers import NotAnswering, Script, Server, Trueline, free_ports

CONNECTIONS = 32
TOLERANCE = 1e-5  # between executors, on probabilities; the design's parity
ASKERS = 8
SERVED, NATIVE, SYNCED = "trueline", "trueline, scikit-learn in a child", "trueline, fdatasync per batch"
BARE, LIBRARY, BY_HAND = "echo, bare Protocol", "echo, uvicorn + Starlette", "Starlette, by hand"
MUST_WORK = frozenset({SERVED, NATIVE, SYNCED, BARE, LIBRARY, BY_HAND})
BEST = {"rate": max, **dict.fromkeys(("p50_alone", "p99_alone", "p50", "p99", "memory", "start"), min)}


class Wrong(Exception):
    """A server's answer is not the model's; says to which row."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how much."""

    models: tuple[str, ...]
    peers: tuple[Peer, ...]
    cache: Path  # of their environments
    rounds: int
    seconds: float
    generator: str
    quick: bool


@dataclass
class Entrant:
    """One server with one model: how it is started in a folder of its own, what it is asked, and its best so far."""

    name: str
    start: Callable[[Path], Server]
    endpoints: tuple[Endpoint, ...]
    best: dict[Endpoint, Score] = field(default_factory=dict)
    out: str = ""  # why it is not measured, or not any more


def contest(subject: Subject, plan: Plan) -> list[Score]:
    """All servers with one model."""
    field_ = list(entrants(subject, plan))
    for turn in range(plan.rounds):
        for entrant in field_:
            if not entrant.out:
                one_round(entrant, subject, plan)
            if plan.peers:
                said = " · ".join(_briefly(score) for score in results(entrant, subject))
                print(f"{subject.name}, round {turn + 1} of {plan.rounds}: {said}", file=sys.stderr, flush=True)
    return _with_ratios([score for entrant in field_ for score in results(entrant, subject)])


def entrants(subject: Subject, plan: Plan) -> Iterator[Entrant]:
    """Ours, the limits, and the peers; the limits with the model that the targets are set for, the variants with peers."""
    both = (endpoints.TRUELINE, endpoints.TRUELINE_OPEN)
    yield Entrant(SERVED, Trueline(subject.packaged).start, both if plan.peers else both[:1])
    if subject.name == models.BOOSTING:
        yield Entrant(NATIVE, Trueline(subject.native()).start, both[:1])
        if plan.peers:
            yield Entrant(SYNCED, Trueline(subject.packaged, ("--sync",)).start, both[:1])
        yield Entrant(BARE, lambda _: Script("echo.py").start(), (endpoints.ECHO,))
        yield Entrant(LIBRARY, lambda _: Script("peers/starlette_server.py").start(), (endpoints.ECHO,))
    by_hand = Script("peers/starlette_server.py", subject.arrays)
    yield Entrant(BY_HAND, lambda _: by_hand.start(), (endpoints.STARLETTE,))
    for peer in plan.peers:
        yield entrant_of(peer, subject, plan.cache)


def entrant_of(peer: Peer, subject: Subject, cache: Path) -> Entrant:
    try:
        python = environments.python_of(peer.environment, cache)
    except environments.NotInstalled as problem:
        return Entrant(peer.name, lambda _: _never(), (peer.endpoint,), out=str(problem))

    def start(folder: Path) -> Server:
        port, *others = free_ports(3)
        command = peer.command(Site(python, folder, port, others, subject))
        return Server(command.arguments, python=python, port=port, variables=command.variables, folder=folder)

    return Entrant(peer.name, start, (peer.endpoint,))


def _never() -> Server:
    raise AssertionError("a peer that is not installed is not started")


def one_round(entrant: Entrant, subject: Subject, plan: Plan) -> None:
    """One round over each endpoint."""
    for endpoint in entrant.endpoints:
        try:
            with tempfile.TemporaryDirectory(prefix="trueline-bench-", ignore_cleanup_errors=True) as folder:
                score = _measured(entrant, endpoint, subject, plan, Path(folder))
        except (NotAnswering, NotPrepared, Wrong) as problem:
            if entrant.name in MUST_WORK:
                raise
            entrant.out = " ".join(str(problem).split())
            return
        before = entrant.best.get(endpoint, score)
        best = {name: pick(getattr(before, name), getattr(score, name)) for name, pick in BEST.items()}
        entrant.best[endpoint] = replace(score, **best)


def _measured(entrant: Entrant, endpoint: Endpoint, subject: Subject, plan: Plan, folder: Path) -> Score:
    bodies = endpoint.write(subject.rows, folder / "bodies.jsonl")
    with entrant.start(folder) as server:
        send = functools.partial(_send, server, endpoint, bodies, plan.generator)
        with cpu.pinned(CORE):
            start = server.first_answer(bodies.read_bytes().splitlines()[0], endpoint.path)
            check(server, endpoint, bodies, subject)
        send(CONNECTIONS, min(plan.seconds, 1.0))  # warm
        before = server.cpu_seconds()
        many = send(CONNECTIONS, plan.seconds)
        used = max(server.cpu_seconds() - before, cpu.TICK)
        alone = send(1, min(plan.seconds, 1.0))
        return Score(
            server=entrant.name,
            model=subject.name,
            endpoint=endpoint.kind,
            rate=many.answered / used,
            p50_alone=alone.p50,
            p99_alone=alone.p99,
            p50=many.p50,
            p99=many.p99,
            memory=server.memory(),
            start=start,
        )


def check(server: Server, endpoint: Endpoint, bodies: Path, subject: Subject) -> None:
    """Every row's answer, asked over several connections at once: a batch must not mix up whose row is whose; Wrong."""
    asked = bodies.read_bytes().splitlines()
    expected = [row[0] for row in subject.rows] if endpoint is endpoints.ECHO else subject.probabilities

    def share(first: int) -> list[float]:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            said = [server.ask_over(connection, body, endpoint.path) for body in asked[first::ASKERS]]
        return [endpoint.read(answer) for answer in said]

    found = np.zeros(len(asked))
    with ThreadPoolExecutor(ASKERS) as pool:
        for first, some in enumerate(pool.map(share, range(ASKERS))):
            found[first::ASKERS] = some
    wrong = np.flatnonzero(~(np.abs(found - expected) <= TOLERANCE))  # NaN is wrong too
    if wrong.size:
        row = wrong[0]
        raise Wrong(
            f"{wrong.size} of {len(asked)} answers are wrong: {found[row]:g} for row {row}, not {expected[row]:g}"
        )


def _send(server: Server, endpoint: Endpoint, bodies: Path, generator: str, connections: int, seconds: float) -> Sent:
    sent = wrk.send(server.port, endpoint.path, bodies, connections=connections, seconds=seconds, by=generator)
    if sent.failed or not sent.answered:
        raise NotAnswering(f"{sent.failed:,} of {sent.answered + sent.failed:,} requests failed under load")
    return sent


def results(entrant: Entrant, subject: Subject) -> Iterator[Score]:
    for endpoint in entrant.endpoints:
        if entrant.out:
            yield Score(entrant.name, subject.name, endpoint.kind, note=f"not measured: {entrant.out}")
        else:
            yield entrant.best[endpoint]


def _briefly(score: Score) -> str:
    said = score.note if score.rate is None else f"{number(score.rate)} answers / CPU-s"
    return f"{score.server}, {score.endpoint}: {said}"


def _with_ratios(found: Sequence[Score]) -> list[Score]:
    """How many times as fast trueline is over the same kind of endpoint."""
    ours = {score.endpoint: score.rate for score in found if score.server == SERVED}
    return [replace(one, ratio=_over(ours[one.endpoint], one.rate)) for one in found]


def _over(ours: float | None, its: float | None) -> float | None:
    return None if ours is None or its is None else ours / its
