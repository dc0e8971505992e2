"""What a killed process leaves behind does not hold up the next one."""

import subprocess
import sys
from datetime import timedelta

import pytest

from trueline.control import blocks
from trueline.domain.blocks import BLOCKS, BlockEvent, BlockState
from trueline.processes.worker import inherit
from trueline.sockets import Bell, dead
from trueline.store import moves, tables
from trueline.tracking.mlflow_store import MlflowTracking
from trueline.wiring import open_context

HOLD_A_BELL = "import sys, os, pathlib; from trueline.sockets import Bell; Bell(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"


@pytest.fixture
def context(world):
    opened = open_context(world.folder / "trueline.yaml")
    yield opened
    opened.store.close()


def leave_a_bell(path):
    subprocess.run([sys.executable, "-c", HOLD_A_BELL, str(path)], check=False)
    assert path.exists()


def claim(context, owner):
    with context.store.begin() as tx:
        return moves.claim(
            tx,
            tables.blocks,
            BLOCKS,
            BlockEvent.claim,
            project="drifting",
            waiting=BlockState.due,
            busy=BlockState.evaluating,
            owner=owner,
            lease=timedelta(minutes=2),
        )


def test_a_killed_workers_work_is_taken_over_at_once_and_a_living_ones_is_not(context):
    with context.store.begin() as tx:
        for day in ("2024-03-01", "2024-03-02"):
            blocks.make_due(tx, "drifting", day, tx.now)
    killed, _ = claim(context, "worker-1")
    claim(context, "worker-2")
    leave_a_bell(context.folder.bell("worker-1"))
    living = Bell(context.folder.bell("worker-2"))
    assert claim(context, "worker-3") is None
    inherit(context)
    assert claim(context, "worker-3") == (killed, 2)
    assert claim(context, "worker-3") is None
    assert not context.folder.bell("worker-1").exists()
    living.close()


def test_only_a_bell_that_nobody_listens_to_is_dead(world):
    folder = world.state.create().bell("any").parent
    leave_a_bell(folder / "worker-1.bell")
    living = Bell(folder / "worker-2.bell")
    assert dead(folder, "worker-*") == [folder / "worker-1.bell"]
    living.close()


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")
def test_a_tracking_store_that_was_half_made_when_its_maker_was_killed_is_made_anew(tmp_path):
    database = tmp_path / "mlflow.db"
    (tmp_path / "mlflow.db.draft-1").write_bytes(b"half of it")
    MlflowTracking(database, tmp_path / "artifacts").close()
    assert database.exists()
    assert [path.name for path in tmp_path.glob("*.draft-*")] == []
    MlflowTracking(database, tmp_path / "artifacts").close()
