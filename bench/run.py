"""All benchmarks, one after the other: `make bench`, or `make bench ARGS=--json`.

Each script runs alone in a fresh process, so none measures what another left behind.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = ("serving.py", "rollback.py", "starts.py", "log_metric.py", "parity.py", "drift_cost.py")


def main() -> int:
    worst = 0
    for script in SCRIPTS:
        worst = max(
            worst,
            subprocess.run([sys.executable, Path(__file__).parent / script, *sys.argv[1:]], check=False).returncode,
        )
    return worst


if __name__ == "__main__":
    sys.exit(main())
