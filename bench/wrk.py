"""wrk, the load generator in C, where the machine has it (Debian: `apt-get install wrk`): it costs less than the servers do."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import cpu
import load
from load import CORE, Sent

SCRIPT = Path(__file__).parent / "requests.lua"
WRK, OWN = "wrk", "bench/load.py"


def generator() -> str:
    """Which of the two this machine has."""
    return WRK if shutil.which("wrk") else OWN


def send(port: int, path: str, bodies: Path, *, connections: int, seconds: float, by: str) -> Sent:
    """Load from one thread; wrk knows whole seconds only, so that less than one is for our own."""
    if by == OWN or seconds < 1:
        return load.send(port, path, bodies, connections=connections, seconds=seconds)
    options = ["-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--timeout", "30s", "-s", str(SCRIPT)]
    with cpu.pinned(CORE):
        ended = subprocess.run(
            ["wrk", *options, f"http://127.0.0.1:{port}{path}"],  # noqa: S607  wherever it is installed
            env={**os.environ, "BODIES": str(bodies)},
            capture_output=True,
            check=False,
            text=True,
        )
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        raise RuntimeError(f"wrk could not send the load: {ended.stderr.strip() or ended.stdout.strip()}")
    return Sent(**json.loads(lines[-1]))
