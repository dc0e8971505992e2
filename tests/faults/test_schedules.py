"""Two and three machines on one database, with crashes and clocks that jump: 10,000 schedules that Hypothesis draws."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fault_scenes import scenes
from fault_world import effects
from schedules import explore

pytestmark = pytest.mark.real

SCHEDULES = 10_000
ON_POSTGRESQL = 300


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_thousand_schedules_lose_nothing_double_nothing_and_have_one_writer(world, tmp_path, capsys):
    """Half of them here, half in a second process: a machine has two cores."""
    script = Path(__file__).parent / "schedules.py"
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "state"), str(SCHEDULES // 2), "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as other:
        try:
            here = explore(world, scenes(world), count=SCHEDULES // 2, seeded=1)
        except BaseException:
            other.kill()
            raise
        output, _ = other.communicate(timeout=1200)
    assert other.returncode == 0, output[-6000:]
    there = json.loads(output.splitlines()[-1])
    total = here.schedules + there["schedules"]
    with capsys.disabled():
        moves, settled = here.moves + there["moves"], here.settled + there["settled"]
        print(f"\n{total} schedules of {moves} moves, {settled} of them followed to rest; seeds 1 and 2")  # noqa: T201
    assert total >= SCHEDULES


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hundreds_of_schedules_on_postgresql_keep_the_same_rules(postgresql, tmp_path, capsys):
    """In half of them machines stand still, and are killed, inside their transactions too."""
    from postgres_world import PostgresWorld

    world = PostgresWorld(tmp_path / "state", postgresql.fresh())
    try:
        with effects(world):
            played = explore(world, scenes(world), count=ON_POSTGRESQL, seeded=3)
    finally:
        world.close()
    with capsys.disabled():
        found = f"{played.schedules} schedules of {played.moves} moves, {played.settled} of them followed to rest"
        print(f"\non PostgreSQL {found}; seed 3")  # noqa: T201
    assert played.schedules >= ON_POSTGRESQL
