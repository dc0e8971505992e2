"""cli-start: what starting the command line costs: `--help`, and `status` with a server running and without."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cpu
from figures import Figure, number, tell
from trueline.cli.up import answers, choose, url
from trueline.client import servers
from trueline.client.servers import Servers
from trueline.security import tokens
from trueline.settings import StateFolder

TIMES = 5
PATIENCE = 60
PROJECT = "version: 1\nproject: bench\ndata: {source: rows.csv, target: y}\ntrain: model.py:fit\n"
HELP, ALONE, SERVED = "trueline --help", "trueline status, no server", "trueline status, a server running"
NOTHING, SQLALCHEMY = "python -c pass", "python -c 'import sqlalchemy'"
COMMANDS = {
    HELP: ["-m", "trueline", "--help"],
    ALONE: ["-m", "trueline", "status"],
    NOTHING: ["-c", "pass"],
    SQLALCHEMY: ["-c", "import sqlalchemy"],
}


def measure(*, quick: bool) -> Iterator[Figure]:
    times = 1 if quick else TIMES
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        folder = Path(name)
        (folder / "trueline.yaml").write_text(PROJECT)
        (folder / "rows.csv").write_text("id,x,y\n1,0.1,1\n2,0.2,2\n")
        (folder / "model.py").write_text("def fit(frame):\n    raise NotImplementedError\n")
        best = _best(COMMANDS, folder, times)
        with control_running(folder):
            best |= _best({SERVED: COMMANDS[ALONE]}, folder, times)
    for claim, beside, most in ((HELP, NOTHING, 0.15), (SERVED, NOTHING, 0.15), (ALONE, SQLALCHEMY, 0.6)):
        against = f"{beside}, {number(best[beside])} s"
        taken = best[claim]
        yield Figure(
            "cli-start", claim, taken, "s CPU", against, taken / best[beside], f"≤ {most} s", holds=taken <= most
        )


def _best(commands: dict[str, list[str]], folder: Path, times: int) -> dict[str, float]:
    """CPU seconds of each command, in turns; the first round fills the file cache and makes the state folder."""
    best = dict.fromkeys(commands, float("inf"))
    for number_of_round in range(times + 1):
        for name, arguments in commands.items():
            used = cpu.of_command([sys.executable, *arguments], cwd=folder)
            if number_of_round:
                best[name] = min(best[name], used)
    return best


@contextmanager
def control_running(folder: Path) -> Iterator[None]:
    """The control process as `up` runs it, without its other children, which `status` does not ask."""
    state = StateFolder(folder / ".trueline").create()
    lock = servers.FolderLock(state)
    tokens.ensure(state.token)
    port = choose("127.0.0.1", 0)
    address = url("127.0.0.1", port)
    options = ["--state", str(state.root), "--project", str(folder / "trueline.yaml"), "--port", str(port)]
    command = [sys.executable, "-m", "trueline.processes.control", *options]
    process = subprocess.Popen(command, stdout=cpu.NULL, stderr=cpu.NULL)
    try:
        _until(lambda: answers(address, "/readyz"))
        servers.publish(state, Servers(address, address, process.pid))
        yield
    finally:
        process.terminate()
        process.wait(15)
        servers.withdraw(state)
        lock.release()
        shutil.rmtree(state.sockets, ignore_errors=True)  # it can lie outside the state folder


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the control process was not ready after {PATIENCE} s")
        time.sleep(0.05)


if __name__ == "__main__":
    tell(measure, __doc__)
