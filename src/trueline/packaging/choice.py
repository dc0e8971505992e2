"""Which executor serves a model: the fastest of those that prove parity, found without trying them all.

Candidates come in the order in which they are usually fast, in families (ONNX Runtime, a booster of its own library,
Treelite, skops, Python). The next way of a family is tried only when the one before is wrong. What holds is measured:
one row alone and a batch of 32, plus the hop for what runs in a child. A family has a least cost whatever the model; one whose
least is above what is already measured is passed over. So the usual refit tries one candidate and measures for a
millisecond, and only a large forest has a contest.

A later candidate must be clearly faster: equal models should make equal folders on a busy machine too.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trueline.errors import PackagingFailed
from trueline.packaging import manifest as manifests
from trueline.packaging import parity, speed
from trueline.packaging.executors import Executor, load
from trueline.packaging.manifest import Manifest, Parity, Speed
from trueline.packaging.parity import Predict, Proof
from trueline.packaging.speed import Seconds

SLOWEST_ROW = 1e-3  # seconds inside the serving process, where everybody else waits meanwhile
CLEARLY = 1.5  # times faster than what came before
HOP = Seconds(
    80e-6, 3e-6
)  # to a child and back: 47 µs and 2.6 measured for 30 floats over a bare pipe, and the loop's wake-up
LEAST: Mapping[str, float] = {  # seconds of a call for a model of one leaf, without the hop
    manifests.LIGHTGBM: 25e-6,
    manifests.TREELITE: 25e-6,
    manifests.XGBOOST: 80e-6,
    manifests.SKOPS: 150e-6,
    manifests.PYTHON: math.inf,  # only when nothing else holds: its environment comes along
}


@dataclass(frozen=True)
class Candidate:
    """One way to keep the model; `write` fills the folder given the model file's path, or raises anything."""

    name: str
    manifest: Manifest
    write: Callable[[Path, Manifest], Manifest]

    @property
    def least(self) -> float:
        kind = self.manifest.kind
        return 0.0 if kind == manifests.ONNX else HOP.cost + LEAST.get(kind, 0.0)

    def build(self, draft: Path) -> tuple[Manifest, Executor]:
        """Write the folder anew and load it as a server would: what is proved is what is served."""
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        written = self.write(draft / self.manifest.model_file, self.manifest)
        manifests.write(draft, written)
        return written, load(draft, None)


@dataclass(frozen=True)
class Held:
    """A candidate that proved parity, and what a row of it costs."""

    name: str
    manifest: Manifest
    worst: float
    seconds: Seconds
    waits: bool  # nobody else is served while it runs, and that is too long
    cost: float


def fastest(
    about: str, candidates: Iterable[Candidate], base: Parity, proof: Proof, native: Predict, draft: Path
) -> Manifest:
    """The manifest of the fastest candidate that holds; its files are in `draft`."""
    tried: list[str] = []
    best: Held | None = None
    attempt = draft.with_name(f"{draft.name}.attempt")
    try:
        for candidate in candidates:
            if best is not None and _pointless(candidate, best):
                continue
            found = _held(candidate, proof, attempt, tried)
            if found is None:
                continue
            if best is not None and not _beats(found, best):
                tried.append(f"{found.name}: right, but slower")
                continue
            if best is not None and not best.waits:
                tried.append(f"{best.name}: right, but slower")
            best = found
            shutil.rmtree(draft, ignore_errors=True)
            attempt.rename(draft)
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    if best is None:
        raise PackagingFailed(f"no executor reproduces the {about} within {parity.TOLERANCE:g}: {'; '.join(tried)}")
    mine, its = best.seconds, speed.measure(native, proof)
    told = Speed(*(round(one * 1e6, 2) for one in (mine.alone, mine.batched, its.alone, its.batched)))
    said = replace(base, worst=best.worst, executor=best.name, tried=tuple(tried), speed=told)
    return replace(best.manifest, parity=said)


def _pointless(candidate: Candidate, best: Held) -> bool:
    if candidate.manifest.kind == best.manifest.kind:
        return True
    if best.waits:
        return False
    return candidate.least * CLEARLY >= best.cost


def _beats(found: Held, best: Held) -> bool:
    if found.waits != best.waits:
        return best.waits
    return found.cost * CLEARLY < best.cost


def _held(candidate: Candidate, proof: Proof, attempt: Path, tried: list[str]) -> Held | None:
    """The candidate as built, if it is right; else one more sentence in `tried`."""
    try:
        written, executor = candidate.build(attempt)
        worst = parity.check(proof, executor)
        if not worst.holds:
            tried.append(f"{candidate.name}: differs by {worst.difference:.2g} on {worst.where}")
            return None
        seconds = speed.measure(executor.predict, proof)
    except Exception as problem:  # noqa: BLE001  converters raise anything; it is told, and the next one tried
        tried.append(f"{candidate.name}: {first_line(problem)}")
        return None
    waits = executor.in_process and seconds.alone > SLOWEST_ROW
    if waits:
        tried.append(f"{candidate.name}: right, but a row takes longer than {SLOWEST_ROW * 1e3:g} ms")
    cost = seconds.cost if executor.in_process else seconds.cost + HOP.cost
    return Held(candidate.name, written, worst.difference, seconds, waits, cost)


def first_line(problem: Exception) -> str:
    text = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {text[0][:200]}" if text else type(problem).__name__
