"""Is an upstream fault there, and is it over? Decisions from ranked suspects and from the days since one was found.

A fault is called when three things are shown of one feature in one slice: the slice is predicted worse (beyond chance,
within the budget of false alarms), the input jumped there in the same days, and undoing the jump (or leaving out the rows
that show it) takes away at least half of the loss. And every model suffers, or it would be the model's own fault.

It is over when the slice is shown to be predicted well again: the days since are ranked against the fault's own days, so
that an unchanged fault is closed by chance at most once in so many of its days, whatever the distribution is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trueline.domain.figures import figure
from trueline.monitoring.profiles import SERVED, Floats, Profile
from trueline.monitoring.repair import KNOWN_FACTORS, Suspect
from trueline.monitoring.shifts import Sign, harm_of, value_of
from trueline.stats.shift import scan


@dataclass(frozen=True)
class FaultPolicy:
    explained: float = 0.5  # least share of the slice's excess loss
    shared: float = 0.5  # the version that suffers least has at least this share of the rise, in logarithms
    days_per_false_end: float = 90.0
    fewest: int = 3  # days of the fault that its end is told from


@dataclass(frozen=True)
class Recovery:
    over: bool
    input_back: bool
    days: int  # healthy days so far, the last ones
    reason: str


def find(ranked: Sequence[Suspect], policy: FaultPolicy) -> Suspect | None:
    """The suspect that is shown to be the cause; None where nobody is."""
    for suspect in ranked:
        everybody = suspect.least is None or math.log(max(suspect.least, 1e-9)) >= policy.shared * math.log(
            suspect.harm
        )
        if suspect.explained >= policy.explained and everybody:
            return suspect
    return None


def recovery(days: Sequence[Profile], cause: dict[str, Any], policy: FaultPolicy) -> Recovery:
    """Whether the fault of `cause` is over, from the profiles since it began, oldest first."""
    name = str(cause["slice"])
    levels = np.array([[-harm_of(day, name, SERVED)] for day in days]).reshape(len(days), 1)
    if len(days) <= policy.fewest or not np.isfinite(levels[-1, 0]):
        return Recovery(over=False, input_back=False, days=0, reason="the fault has no later days to compare with")
    found = scan(levels, both_ways=False, fewest=policy.fewest)
    usual = math.log(float(cause["usual"]))
    halfway = usual + 0.5 * math.log(float(cause["harm"]))
    healthy = min(int(found.days[0]), _trailing(-levels[:, 0], halfway))
    well = healthy > 0 and -float(found.after[0]) < halfway
    shown = well and float(found.log_evidence[0]) >= math.log(policy.days_per_false_end)
    back = well and _input_back(days[-healthy:], cause)
    times = math.exp(-float(found.after[0]) - usual) if healthy else float("nan")
    what = f"{cause['feature']} in {name} is back to what it was" if back else f"{cause['feature']} stays as it is"
    reason = (
        f"{name} is predicted well again ({times:.2f} times its usual loss on {healthy} days in a row; a fault that goes "
        f"on looks so once in {policy.days_per_false_end:.0f} days at most); {what}"
    )
    return Recovery(shown, back, healthy, reason)


def _trailing(harms: Floats, limit: float) -> int:
    """How many of the last days in a row are below a limit: the likeliest start of an end may be a day too early."""
    above = np.flatnonzero(~(harms < limit))
    return len(harms) - (int(above[-1]) + 1 if len(above) else 0)


def _input_back(days: Sequence[Profile], cause: dict[str, Any]) -> bool:
    """Whether the input is nearer to what it was before the fault than to the fault."""
    values = [value_of(day, str(cause["slice"]), str(cause["feature"]), Sign(cause["sign"])) for day in days]
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return False
    middle = float(np.median(known))
    return abs(middle - float(cause["before"])) < abs(middle - float(cause["after"]))


def cause_of(suspect: Suspect, since: str) -> dict[str, Any]:
    """What an incident keeps of its fault."""
    return {**_rounded(suspect), "since": since, "until": None}


def sentence(suspect: Suspect, since: str) -> str:
    """The fault in one sentence, with its numbers."""
    rest = "" if suspect.least is None else f" (at least {suspect.least:.1f} times for every model)"
    return (
        f"{suspect.feature} in {suspect.slice} {change(suspect)} on {since}, and those rows are predicted "
        f"{suspect.harm:.1f} times as badly as before{rest}; {_proof(suspect)}{_broken(suspect)}"
    )


def change(suspect: Suspect) -> str:
    """What happened to the input, in words."""
    moved = f"from {figure(suspect.before)} to {figure(suspect.after)}"
    if suspect.factor is not None and suspect.offset is not None:
        if suspect.offset == 0:
            return f"became {suspect.factor:.2f} times what it was{_named(suspect.factor)}"
        if suspect.factor == 1:
            return f"moved by {suspect.offset:+.4g}"
        return f"became {suspect.factor:.2f} times what it was, {suspect.offset:+.4g}"
    words = {
        Sign.nulls: "misses values (share",
        Sign.outside: "leaves the contract (share",
        Sign.repeated: "repeats one value (share",
    }
    word = words.get(Sign(suspect.sign))
    return f"{word} {moved})" if word else f"moved {moved}"


def _broken(suspect: Suspect) -> str:
    """What the contract says: its own range, or the narrower one of the slice."""
    if suspect.outside > 0:
        return f"; {suspect.outside:.0%} of its values break the contract"
    if suspect.beyond > 0 and suspect.low is not None and suspect.high is not None:
        own = f"{suspect.low:.6g} to {suspect.high:.6g}"
        return f"; the contract allows them, but {suspect.beyond:.0%} of its values leave the slice's own range ({own})"
    return ""


def _proof(suspect: Suspect) -> str:
    undone = "with the change undone" if suspect.factor is not None else "without the rows that show it"
    return f"{undone}, {suspect.explained:.0%} of the excess loss is gone"


def _named(factor: float) -> str:
    for name, known in KNOWN_FACTORS.items():
        if factor == round(known, 4):
            return f" (as {name})"
        if factor == round(1 / known, 4):
            return f" (the inverse of {name})"
    return ""


def _rounded(suspect: Suspect) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(suspect).items()}


def plain(ranked: Sequence[Suspect], most: int = 5) -> list[dict[str, Any]]:
    """The first suspects as JSON values."""
    return [_rounded(suspect) for suspect in ranked[:most]]
