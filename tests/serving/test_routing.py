"""The split is exact, stays with a unit, and moves as few units as possible when it widens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueline.domain.routes import Arm, Route, RouteTable
from trueline.serving.routing import Split, position


def split(canary: float, salt: str = "release-1") -> Split:
    routes = (Route(1, Arm.champion, 1 - canary, "", ""), Route(2, Arm.canary, canary, "", ""))
    return Split(RouteTable(1, "m", routes, salt=salt))


@given(st.text())
def test_one_unit_always_gets_the_same_arm(unit):
    assert split(0.3).choose(unit) == split(0.3).choose(unit)


@given(st.text(), st.floats(0.01, 0.5), st.floats(0.5, 0.99))
def test_a_unit_that_is_on_the_canary_stays_there_while_it_widens(unit, narrow, wide):
    if split(narrow).choose(unit).version == 2:
        assert split(wide).choose(unit).version == 2


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_shares_are_the_weights(share):
    units = 40_000
    canary = sum(split(share).choose(f"customer-{unit}").version == 2 for unit in range(units))
    assert abs(canary - share * units) < 5 * (units * share * (1 - share)) ** 0.5


def test_another_salt_deals_anew():
    units = [f"customer-{unit}" for unit in range(4000)]
    first = {unit for unit in units if split(0.5, "release-1").choose(unit).version == 2}
    second = {unit for unit in units if split(0.5, "release-2").choose(unit).version == 2}
    assert 800 < len(first & second) < 1200


def test_a_choice_knows_its_arm_and_weight():
    choices = {split(0.25).choose(str(unit)) for unit in range(100)}
    assert choices == {(1, "champion", 0.75), (2, "canary", 0.25)}


def test_a_table_without_weights_routes_nothing():
    assert Split(RouteTable(1, "m", (Route(1, Arm.shadow, 0.0, "", ""),))).choose("any") is None
    assert Split(RouteTable(1, "m")).choose("any") is None


def test_weights_of_thirds_leave_no_gap_at_the_end():
    third = 1 / 3
    routes = tuple(Route(version, Arm.canary, third, "", "") for version in (1, 2, 3))
    table = Split(RouteTable(1, "m", routes))
    table._steps[-1] = (0.999, table._steps[-1][1])  # what rounding could do
    assert all(table.choose(str(unit)) is not None for unit in range(5000))


@given(st.binary(max_size=20), st.text(st.characters()))
def test_the_place_of_a_unit_is_in_the_unit_interval(salt, unit):
    assert 0 <= position(salt, unit) < 1
