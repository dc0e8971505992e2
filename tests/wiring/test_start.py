"""Commands that only ask start without what only work needs."""

from __future__ import annotations

import subprocess
import sys

PROJECT = """\
version: 1
project: quick
data: {source: rows.csv, target: y}
train: model.py:fit
"""

ASK = """
import sys
from pathlib import Path
from trueline.wiring import open_services
services = open_services(Path(sys.argv[1]))
print(services.status().sentence)
services.close()
print(sorted({"scipy", "numpy", "polars", "deltalake", "pyarrow", "mlflow", "sklearn"} & sys.modules.keys()))
"""


def test_status_without_a_server_imports_no_number_library(tmp_path):
    (tmp_path / "trueline.yaml").write_text(PROJECT)
    asked = [sys.executable, "-c", ASK, str(tmp_path / "trueline.yaml")]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["nothing serves yet; start with: trueline run", "[]"]
