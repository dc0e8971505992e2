"""Worlds of different kind: something breaks in an input, or the world changes, or nothing happens at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from trueline.domain.contracts import Column, Kind
from trueline.monitoring import faults, repair, shifts
from trueline.monitoring.faults import FaultPolicy
from trueline.monitoring.profiles import profile
from trueline.monitoring.shifts import ShiftPolicy, Sign, harms, inputs

DAYS, BREAKS, ROWS = 76, 62, 90
POLICY = ShiftPolicy()
REGIONS, PLANS = ["north", "south", "east"], ["basic", "pro"]
COLUMNS = (
    Column("amount", Kind.float64, nullable=True, minimum=0, maximum=100_000),
    Column("age", Kind.float64, nullable=True),
    Column("region", Kind.string),
    Column("plan", Kind.string, categories=tuple(PLANS)),
)
EFFECT = {"north": 4.0, "south": -3.0, "east": 0.0, "basic": -6.0, "pro": 6.0}


def drawn(rng, rows=ROWS):
    return pl.DataFrame(
        {
            "amount": rng.lognormal(3, 0.5, rows),
            "age": rng.normal(50, 12, rows),
            "region": rng.choice(REGIONS, rows),
            "plan": rng.choice(PLANS, rows),
        }
    )


def score(rows, weight=1.0):
    """What a model says: linear in the numbers, a bonus for each known text; a missing number counts as zero."""
    numbers = weight * rows["amount"].fill_null(0).to_numpy() + 0.5 * rows["age"].fill_null(0).to_numpy()
    return numbers + sum(
        np.array([EFFECT.get(text, 0.0) for text in rows[name].to_list()]) for name in ("region", "plan")
    )


def odds(values):
    return 1 / (1 + np.exp(-np.clip((values - 49) / 8, -30, 30)))


class World:
    """Days of rows with their labels; the labels follow the true features, the models see what the feed says."""

    def __init__(self, seed=0, feed=None, truth=None, people=None, task="regression"):
        rng = np.random.default_rng(seed)
        self.task, self.days, self.profiles = task, [], []
        for day in range(DAYS):
            rows = drawn(rng)
            rows = rows if people is None else people(rows, day)
            real = score(rows) + (0 if truth is None else truth(rows, day))
            noise = rng.normal(rng.normal(0, 1), 3, ROWS)
            label = real + noise if task == "regression" else (rng.random(ROWS) < odds(real)).astype(float)
            seen = rows if feed is None or day < BREAKS else feed(rows)
            seen = seen.with_columns(label=label)
            self.days.append(seen)
            self.profiles.append(profile(seen, COLUMNS, self._losses(seen)))

    def losses(self, rows, weight=1.0):
        said, truth = score(rows, weight), rows["label"].to_numpy()
        return np.abs(said - truth) if self.task == "regression" else (odds(said) - truth) ** 2

    def _losses(self, rows):
        return {
            "served": self.losses(rows),
            **{str(n): self.losses(rows, w) for n, w in ((1, 1.0), (2, 1.01), (3, 0.99))},
        }

    def first(self):
        """The day after the break on which a fault is called, with the suspect; None when that never happens."""
        for day in range(BREAKS, DAYS):
            past = self.profiles[: day + 1]
            harmed = harms(past, POLICY)
            jumps = inputs(past, harmed, POLICY)
            if jumps:
                rows = pl.concat(self.days[day - 2 : day + 1])
                ranked = repair.suspects(rows, COLUMNS, past, harmed, jumps, self.losses)
                found = faults.find(ranked, FaultPolicy())
                if found is not None:
                    return day - BREAKS + 1, found
        return None


def broken(column, where, value):
    return lambda rows: rows.with_columns(pl.when(where).then(value).otherwise(pl.col(column)).alias(column))


SOUTH, PRO, EVERYWHERE = pl.col("region") == "south", pl.col("plan") == "pro", pl.lit(value=True)
BREAKAGES = {
    "another unit": (broken("amount", SOUTH, pl.col("amount") * 1.609344), "amount", "region=south"),
    "a smaller unit everywhere": (broken("amount", EVERYWHERE, pl.col("amount") * 1000), "amount", "all"),
    "an offset": (broken("age", PRO, pl.col("age") + 60), "age", "plan=pro"),
    "missing values": (broken("amount", SOUTH & (pl.col("age") > 45), pl.lit(None)), "amount", "region=south"),
    "a stuck value": (broken("amount", PRO, pl.lit(90.0)), "amount", "plan=pro"),
    "unknown texts": (broken("plan", SOUTH, pl.lit("PRO")), "plan", "region=south"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_input_is_named_with_its_slice_within_a_week(breakage):
    feed, feature, where = BREAKAGES[breakage]
    found = World(feed=feed).first()
    assert found is not None
    day, suspect = found
    assert (suspect.feature, suspect.slice) == (feature, where)
    assert day <= 7


def test_a_broken_input_of_a_binary_model_is_named_too():
    found = World(feed=broken("amount", SOUTH, pl.col("amount") * 3), task="classification").first()
    assert found is not None
    assert (found[1].feature, found[1].slice) == ("amount", "region=south")


def test_the_sentence_has_what_happened_and_how_much_it_explains():
    found = World(feed=BREAKAGES["another unit"][0]).first()
    assert found is not None
    said = faults.sentence(found[1], "2026-03-01")
    assert "amount in region=south became 1.61 times what it was (as from miles to kilometres)" in said
    assert "of the excess loss is gone" in said
    assert "every model" in said


def test_a_range_that_the_contract_has_and_the_slice_has_not_is_told():
    found = World(feed=BREAKAGES["a stuck value"][0]).first()
    assert found is not None
    narrow = replace(found[1], outside=0.0, beyond=0.4, low=5.0, high=80.0)
    assert "40% of its values leave the slice's own range (5 to 80)" in faults.sentence(narrow, "2026-03-01")
    assert "12% of its values break the contract" in faults.sentence(replace(narrow, outside=0.12), "2026-03-01")


def _richer(rows, day):
    return (
        rows
        if day < BREAKS
        else rows.with_columns(pl.when(SOUTH).then(pl.col("amount") * 1.8).otherwise(pl.col("amount")).alias("amount"))
    )


NATURAL = {
    "nothing": {},
    "a slow drift": {"people": lambda rows, day: rows.with_columns(pl.col("amount") * (1 + day / 100))},
    "other people come": {"people": _richer},
    "the world changes in a slice": {
        "truth": lambda rows, day: np.where((day >= BREAKS) & (rows["region"] == "south").to_numpy(), 25.0, 0.0)
    },
    "other people come and the world changes": {
        "people": _richer,
        "truth": lambda rows, day: np.where((day >= BREAKS) & (rows["region"] == "south").to_numpy(), 25.0, 0.0),
    },
    "the whole world changes": {"truth": lambda rows, day: np.full(rows.height, 20.0 if day >= BREAKS else 0.0)},
}


@pytest.mark.parametrize("world", NATURAL)
def test_what_the_world_does_by_itself_is_no_fault(world):
    assert World(seed=3, **NATURAL[world]).first() is None


def test_a_concept_that_changes_in_a_slice_shows_as_harm_there_with_no_input_to_blame():
    world = World(**NATURAL["the world changes in a slice"])
    harmed = harms(world.profiles[: BREAKS + 6], POLICY)
    assert harmed[0].slice == "region=south"
    assert inputs(world.profiles[: BREAKS + 6], harmed, POLICY) == []


def test_a_model_that_alone_gets_worse_is_not_the_inputs_fault():
    found = World(feed=BREAKAGES["another unit"][0]).first()
    assert found is not None
    assert faults.find([replace(found[1], least=1.05)], FaultPolicy()) is None
    assert faults.find([replace(found[1], least=None)], FaultPolicy()) is not None
    assert faults.find([replace(found[1], explained=0.3)], FaultPolicy()) is None


def _cause(world):
    found = world.first()
    assert found is not None
    return faults.cause_of(found[1], "2026-03-01")


def test_a_fault_that_ends_is_over_within_a_few_days():
    feed = BREAKAGES["another unit"][0]
    fault, calm = World(feed=feed), World(seed=9)
    cause = _cause(fault)
    went_on = fault.profiles[BREAKS:]
    assert not faults.recovery(went_on, cause, FaultPolicy()).over
    needed = next(n for n in range(1, 9) if faults.recovery(went_on + calm.profiles[:n], cause, FaultPolicy()).over)
    told = faults.recovery(went_on + calm.profiles[:needed], cause, FaultPolicy())
    assert needed <= 4
    assert (told.days, told.input_back) == (needed, True)
    assert "is back to what it was" in told.reason
    assert "once in 90 days" in told.reason


def test_a_model_that_has_learnt_the_new_unit_ends_the_fault_and_says_that_the_input_stays():
    fault = World(feed=BREAKAGES["another unit"][0])
    cause = _cause(fault)
    learnt = [
        {**day, name: {**day[name], "loss": {"served": [rows, rows * 2.5]}}}
        for day in World(seed=4, feed=BREAKAGES["another unit"][0]).profiles[BREAKS : BREAKS + 5]
        for name, rows in (("region=south", day["region=south"]["rows"]),)
    ]
    told = faults.recovery(fault.profiles[BREAKS:] + learnt, cause, FaultPolicy())
    assert (told.over, told.input_back) == (True, False)
    assert "stays as it is" in told.reason


@pytest.mark.parametrize("days", [1, 3])
def test_a_fault_just_found_is_not_over(days):
    fault = World(feed=BREAKAGES["another unit"][0])
    assert not faults.recovery(fault.profiles[BREAKS : BREAKS + days], _cause(fault), FaultPolicy()).over


def _luck(rng, slices, features):
    """A day of a model with nothing wrong: losses and inputs with day luck."""
    means = rng.normal(0, 1, features)
    sums = {str(n): [40, 40, 40 * m, 40 * (m**2 + 1), 0, 1, m - 2, m + 2] for n, m in enumerate(means.tolist())}
    losses = {name: [40, 40 * float(rng.lognormal(0, 0.4))] for name in slices}
    losses["all"] = [40 * len(slices), sum(loss for _, loss in losses.values())]
    return {
        name: {"rows": rows, "loss": {"served": [rows, loss]}, "features": sums}
        for name, (rows, loss) in losses.items()
    }


def test_in_a_model_year_without_drift_thirty_features_and_a_dozen_slices_raise_one_false_incident_at_most():
    """Half the budget of one a year is the slices'; harm is tested first, so it bounds incidents however many inputs."""
    rng = np.random.default_rng(5)
    slices = [f"s={n}" for n in range(12)]
    days = [_luck(rng, slices, 30) for _ in range(365 + 72)]
    called = 0
    for day in range(72, len(days)):
        past = days[day - 71 : day + 1]
        called += bool(inputs(past, harms(past, POLICY), POLICY))
    assert called <= 1


def test_values_are_what_their_sign_says():
    day = {"s": {"features": {"x": [10, 8, 16.0, 40.0, 2, 4, 0.0, 4.0]}}}
    read = {sign: shifts.value_of(day, "s", "x", sign) for sign in Sign}
    assert read == {
        Sign.level: 2.0,
        Sign.spread: 1.0,
        Sign.nulls: pytest.approx(0.2),
        Sign.outside: 0.25,
        Sign.repeated: 0.5,
    }
