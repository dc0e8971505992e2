"""Is this input the cause? Undo its jump, ask the champion again, and see how much of the lost performance comes back.

A number that jumped by scale or shift (miles became kilometres) is mapped back and the rows are scored anew: for a real
drift (longer flights) that makes matters worse, for a broken unit it mends them. A jump that cannot be undone (missing
values, unknown categories, one value stuck) is blamed for the excess loss of the very rows that show it. Either way the
answer is a share of the excess loss, so suspects can be ranked, also those whose slices overlap: the slice that
explains most of the whole traffic's loss is where the fault is, its neighbours only share rows with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from trueline.domain.contracts import NUMBERS, Column, compile_doubts
from trueline.monitoring.profiles import ALL, Floats, Mask, Profile, members
from trueline.monitoring.shifts import Harm, InputJump, Sign, moments, own_range, value_of

KNOWN_FACTORS = {
    "from miles to kilometres": 1.609344,
    "from inches to centimetres": 2.54,
    "from feet to metres": 0.3048,
    "from pounds to kilograms": 0.45359237,
    "by a hundred": 100.0,
    "by a thousand": 1000.0,
    "by sixty": 60.0,
}
NEAR = 1.3
"""How near an estimated factor must be to a known one for that one to be tried too: it is taken from a few days."""

SIMPLER = 0.9
"""A scale or a shift alone is believed when it mends at least this share of what both together mend."""

Losses = Callable[[pl.DataFrame], Floats]
"""The champion's loss of each row, as the features in the frame say; NaN where there is no label."""


@dataclass(frozen=True)
class Map:
    """x became factor·x + offset."""

    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Suspect:
    """An input in a slice, with what speaks for it."""

    feature: str
    slice: str
    sign: str
    days: int  # since when, counted from the last day
    before: float
    after: float
    log_evidence: float  # of the input's jump
    harm: float  # the slice's loss, in multiples of its usual one
    usual: float  # what that is: beside the other rows' loss, or for all rows the loss
    harm_log_evidence: float
    least: float | None  # the same multiple for the version that suffers least
    explained: float  # share of the slice's excess loss that goes with the change
    of_total: float  # share of the mean loss of all rows that goes with it
    outside: float  # share of the slice's values that break the contract's range or categories
    beyond: float  # share of them outside of what the slice itself had before
    low: float | None = None  # which was from here
    high: float | None = None  # to there
    factor: float | None = None
    offset: float | None = None


def suspects(
    rows: pl.DataFrame,
    columns: Sequence[Column],
    profiles: Sequence[Profile],
    harmed: Sequence[Harm],
    jumps: Sequence[InputJump],
    losses: Losses,
) -> list[Suspect]:
    """Every feature that jumped somewhere, in every slice that is harmed, most of the total loss explained first."""
    now = losses(rows)
    by_name = {column.name: column for column in columns}
    found = []
    for feature in dict.fromkeys(jump.feature for jump in jumps):
        for harm in harmed:
            if harm.slice.startswith(f"{feature}="):
                continue
            jump = _evidence_for(feature, harm.slice, jumps)
            suspect = _explain(rows, by_name[feature], profiles, harm, jump, now, losses)
            if suspect is not None:
                found.append(suspect)
    return sorted(found, key=lambda one: (-one.of_total, one.slice))


def _evidence_for(feature: str, name: str, jumps: Sequence[InputJump]) -> InputJump:
    """The jump of the feature in this slice, or else the strongest one in a slice that overlaps with it."""
    own = [jump for jump in jumps if (jump.feature, jump.slice) == (feature, name)]
    return (own or [jump for jump in jumps if jump.feature == feature])[0]


def _explain(
    rows: pl.DataFrame,
    column: Column,
    profiles: Sequence[Profile],
    harm: Harm,
    jump: InputJump,
    now: Floats,
    losses: Losses,
) -> Suspect | None:
    labelled = np.isfinite(now)
    mine = members(rows, harm.slice) & labelled
    rest = labelled & ~mine
    if not mine.any() or (harm.slice != ALL and not rest.any()):
        return None
    usual = harm.before if harm.slice == ALL else harm.before * float(now[rest].mean())
    excess = float(now[mine].mean()) - usual
    if excess <= 0:
        return None
    if jump.sign in (Sign.level, Sign.spread):
        mended, best = _mend(rows, column, profiles, harm, mine, now, losses)
        gain, purity = mended, 1.0
    else:
        best = None
        affected = mine & _affected(rows[column.name], column, jump.sign)
        gain = float((now[affected] - usual).sum()) / int(mine.sum())
        purity = int(affected.sum()) / int(mine.sum())
    total = float(now[labelled].mean())
    before, after = (_typical(part, harm.slice, jump) for part in (profiles[: -harm.days], profiles[-harm.days :]))
    own = own_range(profiles[: -harm.days], harm.slice, column.name) if column.kind in NUMBERS else None
    outside, beyond = _left(rows[column.name].filter(pl.Series(mine)).drop_nulls(), column, own)
    return Suspect(
        feature=column.name,
        slice=harm.slice,
        sign=str(jump.sign),
        days=harm.days,
        before=before,
        after=after,
        log_evidence=jump.log_evidence,
        harm=harm.after / harm.before,
        usual=harm.before,
        harm_log_evidence=harm.log_evidence,
        least=harm.least,
        explained=min(max(gain / excess, 0.0), 1.0),
        of_total=max(gain, 0.0) * purity * int(mine.sum()) / int(labelled.sum()) / total if total > 0 else 0.0,
        outside=outside,
        beyond=beyond,
        low=own[0] if own else None,
        high=own[1] if own else None,
        factor=best.factor if best else None,
        offset=best.offset if best else None,
    )


def _typical(days: Sequence[Profile], name: str, jump: InputJump) -> float:
    """The median day of what jumped, in this slice."""
    known = [value for day in days if np.isfinite(value := value_of(day, name, jump.feature, jump.sign))]
    return float(np.median(known)) if known else float("nan")


def _left(values: pl.Series, column: Column, own: tuple[float, float] | None) -> tuple[float, float]:
    """Which shares of a slice's values leave the contract, and what the slice itself had before."""
    if not len(values):
        return 0.0, 0.0
    outside = float(_affected(values, column, Sign.outside).mean())
    if own is None:
        return outside, 0.0
    numbers = values.cast(pl.Float64).to_numpy()
    return outside, float(((numbers < own[0]) | (numbers > own[1])).mean())


def _mend(
    rows: pl.DataFrame,
    column: Column,
    profiles: Sequence[Profile],
    harm: Harm,
    mine: Mask,
    now: Floats,
    losses: Losses,
) -> tuple[float, Map | None]:
    """The mean loss that undoing the jump takes away, by the simplest map that takes most of it."""
    tried: list[tuple[float, Map]] = []
    for guess in _maps(profiles, harm, column.name):
        if column.kind not in NUMBERS:
            continue
        values = rows[column.name].cast(pl.Float64).to_numpy().copy()
        values[mine] = (values[mine] - guess.offset) / guess.factor
        undone = rows.with_columns(pl.Series(column.name, values).fill_nan(None).cast(rows.schema[column.name]))
        tried.append((float((now - losses(undone))[mine].mean()), guess))
    if not tried:
        return 0.0, None
    most = max(gain for gain, _ in tried)
    return next((gain, guess) for gain, guess in tried if gain >= SIMPLER * most or gain == most)


def _maps(profiles: Sequence[Profile], harm: Harm, feature: str) -> Iterator[Map]:
    """A known unit, scale, shift, both: from mean and spread before the jump and since, simplest first."""
    old = moments(profiles[: -harm.days], harm.slice, feature)
    new = moments(profiles[-harm.days :], harm.slice, feature)
    if old is None or new is None:
        return
    if old[0] * new[0] > 0:
        factor = new[0] / old[0]
        for known in KNOWN_FACTORS.values():
            yield from (Map(round(f, 4)) for f in (known, 1 / known) if 1 / NEAR < factor / f < NEAR)
        yield Map(factor)
    yield Map(1.0, new[0] - old[0])
    if old[1] > 0 and new[1] > 0:
        factor = new[1] / old[1]
        yield Map(factor, new[0] - factor * old[0])


def _affected(values: pl.Series, column: Column, sign: Sign) -> Mask:
    """The rows that show the change."""
    if sign is Sign.nulls:
        return values.is_null().to_numpy()
    if sign is Sign.outside:
        doubt = compile_doubts(column)
        return np.array([value is not None and doubt(value) is not None for value in values.to_list()], dtype=bool)
    counts = values.drop_nulls().value_counts(sort=True)
    stuck = counts[values.name][0] if counts.height else None
    return (values == stuck).fill_null(value=False).to_numpy()
