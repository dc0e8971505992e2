"""validate: the contract over 1M rows × 10 checks, beside the same ten questions asked of Polars directly.

Five columns must have a value, three have a range, one a list of categories, one must not repeat. The contract also brings
the frame into its own types, which is paid for here too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

import cpu
from figures import Figure, number, tell
from trueline.data.contract_frames import enforce
from trueline.domain.contracts import Column, Contract, Kind

PLANS = ("basic", "business", "family", "free", "trial")
CONTRACT = Contract(
    (
        Column("customer", Kind.integer, unique=True),
        Column("age", Kind.integer, minimum=0, maximum=120),
        Column("spent", Kind.float64, minimum=0.0, maximum=1e6),
        Column("score", Kind.float32, minimum=-6.0, maximum=6.0),
        Column("plan", Kind.string, categories=PLANS),
    )
)
CHECKS = (
    *(pl.col(column.name).is_null().any().alias(f"{column.name} null") for column in CONTRACT.columns),
    (~pl.col("age").is_between(0, 120)).any().alias("age range"),
    (~pl.col("spent").is_between(0.0, 1e6)).any().alias("spent range"),
    (~pl.col("score").is_between(-6.0, 6.0)).any().alias("score range"),
    (~pl.col("plan").is_in(PLANS)).any().alias("plan known"),
    (pl.col("customer").n_unique() < pl.len()).alias("customer again"),  # the cheapest of four ways to ask
)


def frame_of(rows: int) -> pl.DataFrame:
    draw = np.random.default_rng(3)
    return pl.DataFrame(
        {
            "customer": draw.permutation(rows),
            "age": draw.integers(18, 90, rows),
            "spent": draw.gamma(2, 100, rows),
            "score": draw.normal(size=rows).clip(-5, 5).astype(np.float32),
            "plan": draw.choice(PLANS, rows),
        }
    )


def measure(*, quick: bool) -> Iterator[Figure]:
    rows = 10_000 if quick else 1_000_000
    frame = frame_of(rows)

    def ours() -> None:
        assert not enforce(frame, CONTRACT).warnings

    def bare() -> None:
        assert not any(frame.select(CHECKS).row(0))

    seconds = cpu.best_in_turns({"ours": ours, "bare": bare}, rounds=2 if quick else 6)
    ratio = seconds["ours"] / seconds["bare"]
    yield Figure(
        claim=f"a contract over {rows:,} rows × {len(CHECKS)} checks",
        value=seconds["ours"],
        unit="s CPU",
        against=f"the same checks in bare Polars, {number(seconds['bare'])} s",
        ratio=ratio,
        target="≤ 1.5x bare Polars",
        holds=None if quick else ratio <= 1.5,
        id="validate",
    )


if __name__ == "__main__":
    tell(measure, __doc__)
