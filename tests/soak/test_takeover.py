"""What a killed process leaves behind does not hold up the next one."""

import subprocess
import sys

import pytest

from trueline.sockets import Bell, dead
from trueline.tracking.mlflow_store import MlflowTracking

HOLD_A_BELL = "import sys, os, pathlib; from trueline.sockets import Bell; Bell(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"


def leave_a_bell(path):
    subprocess.run([sys.executable, "-c", HOLD_A_BELL, str(path)], check=False)
    assert path.exists()


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
