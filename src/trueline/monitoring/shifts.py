"""From the profiles of the last days to the slices that lose performance, and the inputs that jumped in them.

Two families of series, each day one observation. *Harm*: how much worse a slice is predicted than the rest of the day's
rows (the day's luck cancels; for all rows, the loss itself). *Inputs*: level, spread, missing values, values outside
the contract and repeated values of each feature in each slice. Harm is tested first and spends the budget of false alarms
(Bonferroni over slices and over the year); only in slices where it is shown are inputs tested, at α over all their series
together. So while nothing drifts, the budget bounds false incidents, and while something drifts, α bounds a wrong name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from trueline.monitoring.profiles import ALL, FEWEST_ROWS, SERVED, Floats, Profile
from trueline.stats.shift import LATEST, log_threshold, scan

TINY = 1e-9
REMEMBERED = 72
"""Days of profiles: the longest jump looked for and the pool before it."""


class Sign(StrEnum):
    level = "level"
    spread = "spread"
    nulls = "nulls"  # share of missing values
    outside = "outside"  # share of values outside the contract's range or categories
    repeated = "repeated"  # share of the most frequent value


@dataclass(frozen=True)
class ShiftPolicy:
    days_per_false_alarm: float = 730.0  # of slices; the other half of the budget is the total's
    alpha: float = 0.01  # of naming an input that did not jump
    loss: float = 0.10  # the smallest rise of a slice's loss worth anything


@dataclass(frozen=True)
class Harm:
    """A slice that is predicted worse than it was."""

    slice: str
    days: int  # since when, counted from the last day, that day included
    before: float  # loss beside the rest of the rows; for all rows the loss
    after: float
    log_evidence: float
    least: float | None  # rise of the version that suffers least; None where one alone scored


@dataclass(frozen=True)
class InputJump:
    feature: str
    slice: str
    sign: Sign
    days: int
    before: float
    after: float
    log_evidence: float


def harms(profiles: Sequence[Profile], policy: ShiftPolicy) -> list[Harm]:
    """The slices whose loss is shown to have jumped, worst first."""
    names = [name for name in profiles[-1] if profiles[-1][name]["loss"][SERVED][0] >= FEWEST_ROWS] if profiles else []
    if not names:
        return []
    values = np.array([[harm_of(day, name, SERVED) for name in names] for day in profiles])
    found = scan(values, both_ways=False)
    needed = log_threshold(len(names), policy.days_per_false_alarm)
    shown = []
    for at, name in enumerate(names):
        before, after = float(found.before[at]), float(found.after[at])
        if found.log_evidence[at] < needed or after - before < np.log1p(policy.loss):
            continue
        days = _since(values[:, at], int(found.days[at]), (before + after) / 2)
        evidence = float(found.log_evidence[at])
        shown.append(
            Harm(
                name,
                days,
                float(np.exp(before)),
                float(np.exp(after)),
                evidence,
                _least(profiles[-days:], name, before),
            )
        )
    return sorted(shown, key=lambda harm: harm.before / harm.after)


def _since(harms: Floats, days: int, halfway: float) -> int:
    """The likeliest start, or the day before it while that one is nearer to the harm: it may be a day too late."""
    while days < min(LATEST, len(harms) - 1) and harms[-days - 1] > halfway:
        days += 1
    return days


def harm_of(day: Profile, name: str, who: str) -> float:
    """Log of a slice's mean loss beside that of the other rows; NaN where either has too few labelled ones."""
    if name not in day or who not in day[name]["loss"]:
        return float("nan")
    rows, total = day[name]["loss"][who]
    if rows < FEWEST_ROWS:
        return float("nan")
    if name == ALL:
        return float(np.log(total / rows + TINY))
    others, rest = day[ALL]["loss"][who][0] - rows, day[ALL]["loss"][who][1] - total
    if others < FEWEST_ROWS:
        return float("nan")
    return float(np.log(total / rows + TINY) - np.log(rest / others + TINY))


def _least(days: Sequence[Profile], name: str, before: float) -> float | None:
    """How much worse the version that suffers least is on those days, relative to what was usual for the served one.

    Only versions that were there on all of them: one trained meanwhile has perhaps learnt the fault.
    """
    scored = [set(day[name]["loss"]) - {SERVED} for day in days if name in day]
    rises = []
    for who in sorted(set.intersection(*scored)) if scored else ():
        seen = [harm for day in days if np.isfinite(harm := harm_of(day, name, who))]
        if seen:
            rises.append(float(np.exp(np.median(seen) - before)))
    return min(rises) if len(rises) > 1 else None


def inputs(profiles: Sequence[Profile], harmed: Sequence[Harm], policy: ShiftPolicy) -> list[InputJump]:
    """The inputs shown to have jumped in the slices that are harmed, strongest evidence first."""
    keys: list[tuple[str, str, Sign]] = []
    columns: list[list[float]] = []
    for harm in harmed:
        for feature in profiles[-1][harm.slice]["features"]:
            for sign in Sign:
                keys.append((feature, harm.slice, sign))
                columns.append([value_of(day, harm.slice, feature, sign) for day in profiles])
    if not keys:
        return []
    found = scan(np.array(columns).T)
    needed = log_threshold(len(keys), 1 / policy.alpha)
    jumps = [
        InputJump(
            *key, int(found.days[at]), float(found.before[at]), float(found.after[at]), float(found.log_evidence[at])
        )
        for at, key in enumerate(keys)
        if found.log_evidence[at] >= needed
    ]
    return sorted(jumps, key=lambda jump: -jump.log_evidence)


def value_of(day: Profile, name: str, feature: str, sign: Sign) -> float:
    """One day's observation of one series; NaN where the slice has too few rows for it."""
    kept = day.get(name, {"features": {}})["features"].get(feature)
    if kept is None or kept[0] < FEWEST_ROWS:
        return float("nan")
    rows, present, total, squares, outside, repeated = kept[:6]
    if sign is Sign.nulls:
        return float(1 - present / rows)
    if present < FEWEST_ROWS:
        return float("nan")
    values = {
        Sign.level: total / present,
        Sign.spread: float(np.sqrt(max(squares / present - (total / present) ** 2, 0.0))),
        Sign.outside: outside / present,
        Sign.repeated: repeated / present,
    }
    return float(values[sign])


def moments(days: Sequence[Profile], name: str, feature: str) -> tuple[float, float] | None:
    """Mean and standard deviation of a number in a slice over several days."""
    kept = [day[name]["features"][feature] for day in days if name in day and feature in day[name]["features"]]
    present = sum(one[1] for one in kept)
    if present < FEWEST_ROWS:
        return None
    mean = sum(one[2] for one in kept) / present
    return mean, float(np.sqrt(max(sum(one[3] for one in kept) / present - mean**2, 0.0)))


def own_range(days: Sequence[Profile], name: str, feature: str) -> tuple[float, float] | None:
    """The smallest and the largest number that a slice had: the contract's range may be wider than one slice's."""
    kept = [day[name]["features"][feature] for day in days if name in day and feature in day[name]["features"]]
    lows = [float(one[6]) for one in kept if one[6] is not None]
    highs = [float(one[7]) for one in kept if one[7] is not None]
    return (min(lows), max(highs)) if lows else None
