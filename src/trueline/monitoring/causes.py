"""Who did it? Suspects of a loss beyond the promise, each with the share of it that it explains.

An input's share is what undoing its jump takes away (`repair`). A release's share is what the champion loses more than the
version it replaced, on the same rows; it counts as *code* when the two came from different code, else as *data*: the
same code on newer rows. A fresh refit's or an earlier champion's share is what it would have saved. Shares are of one
day's excess, and suspects overlap, so they rank and do not add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trueline.domain.figures import figure
from trueline.monitoring.rehearsal import RehearsalBlock

LEAST = 0.05
"""A share below it is not told."""


@dataclass(frozen=True)
class Lineage:
    """A version as a suspect: where it came from."""

    version: int
    run: str
    tree: str | None
    dataset: int | None
    replaced: int | None = None  # by the release that brought it
    release: str | None = None


@dataclass(frozen=True)
class Cause:
    kind: str  # input | slice | release | code | data | age
    name: str
    share: float | None  # of the loss beyond the promise; None where only the slice is known
    sentence: str


def ranked(
    evidence: Mapping[str, Any],
    block: RehearsalBlock | None,
    promised: float,
    champion: Lineage,
    before: Lineage | None,
) -> list[dict[str, Any]]:
    """Every suspect there is evidence about, the largest share first."""
    served = evidence.get("served", {})
    excess = float(served["loss"]) - promised if served.get("n") else 0.0
    found = [*_inputs(evidence, excess), *_slices(evidence)]
    if block is not None and excess > 0:
        found += _released(block, excess, champion, before)
        found += _others(block, excess, champion)
    told = [one for one in found if one.share is None or one.share >= LEAST]
    return [asdict(one) for one in sorted(told, key=lambda one: (-(one.share or 0.0), one.kind, one.name))]


def _inputs(evidence: Mapping[str, Any], excess: float) -> list[Cause]:
    loss = evidence.get("served", {}).get("loss") or 0.0
    found = []
    for one in evidence.get("suspects", ()):
        share = min(one["of_total"] * loss / excess, 1.0) if excess > 0 else one["of_total"]
        said = (
            f"since {one['since']} {one['feature']} in {one['slice']} is {figure(one['after'])} instead of {figure(one['before'])} "
            f"({one['sign']}); {one['explained']:.0%} of what that slice lost goes with it"
        )
        found.append(Cause("input", f"{one['feature']} in {one['slice']}", round(share, 4), said))
    return found


def _slices(evidence: Mapping[str, Any]) -> list[Cause]:
    explained = {one["slice"] for one in evidence.get("suspects", ())}
    return [
        Cause(
            "slice",
            one["slice"],
            None,
            f"{one['slice']} is predicted {one['after'] / one['before']:.1f} times as badly as before, for {one['days']} days",
        )
        for one in evidence.get("harmed", ())
        if one["slice"] not in explained
    ]


def _released(block: RehearsalBlock, excess: float, champion: Lineage, before: Lineage | None) -> list[Cause]:
    """The release that brought the champion, by what the version before it does on the same rows."""
    if before is None:
        return []
    gap = _gap(block, champion.version, before.version)
    if gap is None:
        return []
    share = round(gap / excess, 4)
    if champion.tree == before.tree:
        what = f"the same code on dataset version {champion.dataset} instead of {before.dataset}"
        source = Cause("data", f"dataset version {champion.dataset}", share, f"version {champion.version} is {what}")
    else:
        what = f"version {champion.version} is other code than version {before.version} ({champion.run})"
        source = Cause("code", champion.run, share, what)
    said = f"version {before.version}, which it replaced, would have lost {figure(gap)} less on the same rows"
    return [Cause("release", champion.release or f"version {champion.version}", share, said), source]


def _others(block: RehearsalBlock, excess: float, champion: Lineage) -> list[Cause]:
    """What a fresh refit, or the best other version scored on these rows, would have saved."""
    ready = [refit for refit in block.refits if refit.ready_at <= block.began]
    if not ready:
        return []
    fresh = max(ready, key=lambda refit: (refit.trained_to, refit.version)).version
    gap = _gap(block, champion.version, fresh)
    if gap is None:
        return []
    said = f"the freshest refit, version {fresh}, would have lost {figure(gap)} less on the same rows"
    return [Cause("age", f"of version {champion.version}", round(gap / excess, 4), said)]


def _gap(block: RehearsalBlock, mine: int, other: int) -> float | None:
    """How much more one version lost than another on the rows that both scored."""
    for pair in block.pairs:
        if pair.rows and {pair.left, pair.right} == {mine, other}:
            difference = pair.left_loss - pair.right_loss
            return difference if pair.left == mine else -difference
    return None


def first(causes: Sequence[Mapping[str, Any]]) -> str:
    """The first suspects, for the sentence of an incident."""
    if not causes:
        return "nothing measured explains it"
    return "suspected: " + ", ".join(
        f"{one['kind']} {one['name']}" + ("" if one["share"] is None else f" ({one['share']:.0%})")
        for one in causes[:3]
    )
