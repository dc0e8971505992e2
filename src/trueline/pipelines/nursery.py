"""The process that trainings and steps are forked from: it has imported what is slow to import, and nothing else.

A fresh process per training costs two CPU-seconds of imports; a fork of this one costs milliseconds, and the user's
modules are still imported anew each time. Forking is sound only while no library has started a thread, so it preloads
only those that start none (scikit-learn and the converters, not Polars or ONNX Runtime) and counts its threads: with more
than one, or where forking is unsound anyway (macOS), each training gets a new interpreter instead.

Commands are lines on standard input: `start <job> <module> <path of a spec file>` and `kill <job>`. An answer is a line
with the job and the exit code of its process, negative for the signal that killed it. Every child leads a process group,
which ends with it: nothing that user code started is left behind. When standard input ends, the worker is gone: whatever
runs is killed, for its run will be taken over.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1

PRELOADED = (
    "numpy",
    "scipy.linalg",
    "scipy.sparse",
    "scipy.special",
    "scipy.stats",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "onnx",
    "skl2onnx",
    "skops.io",
    "yaml",
)

ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # else OpenBLAS starts its threads when NumPy is imported; raised per training
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # Arrow's allocator would start one
    "PYTHONHASHSEED": "0",  # the order of sets is part of reproducing a training
}


@dataclass
class Children:
    """The processes under way, by job."""

    forks: bool
    pids: dict[int, int] = field(default_factory=dict)  # by job
    ends: dict[int, int] = field(default_factory=dict)  # jobs, by what becomes readable when they end

    def obey(self, line: str) -> None:
        """One command."""
        command, _, rest = line.partition(" ")
        if command == "start":
            job, module, path = rest.split(" ", 2)
            child, end = raise_child(module, path, forks=self.forks)
            self.pids[int(job)], self.ends[end] = child, int(job)
        elif (child := self.pids.get(int(rest), 0)) != 0:
            kill_group(child)

    def bury(self, end: int) -> None:
        """Tell how the process ended of which `end` says that it has; what it left running ends too."""
        job = self.ends.pop(end)
        os.close(end)
        child = self.pids.pop(job)
        kill_group(child)  # before its number is free for others
        _, status = os.waitpid(child, 0)
        answer(f"{job} {os.waitstatus_to_exitcode(status)}")

    def kill_all(self) -> None:
        for child in self.pids.values():
            kill_group(child)


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    forks = sys.platform != "darwin" and threads() == 1
    answer("ready forks" if forks else "ready")
    children = Children(forks)
    pending = b""
    while True:
        ready, _, _ = select.select([0, *children.ends], [], [])
        for end in ready:
            if end != 0:
                children.bury(end)
        if 0 in ready:
            chunk = os.read(0, 65536)
            if not chunk:
                children.kill_all()
                os.killpg(0, signal.SIGKILL)
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                children.obey(line.decode())


def raise_child(module: str, path: str, *, forks: bool) -> tuple[int, int]:
    """Start one process; its number, and a file that becomes readable when it has ended."""
    mine, theirs = os.pipe()  # theirs is open as long as the child lives, whatever becomes of it
    if forks:
        child = os.fork()
        if child == 0:
            os.close(mine)
            be_child(module, path)
        with contextlib.suppress(OSError):  # both do it: whoever comes first
            os.setpgid(child, child)
    else:
        limit_threads(path)
        command = [sys.executable, "-m", module, path]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs], process_group=0).pid
    os.close(theirs)
    if hasattr(os, "pidfd_open"):  # also ends when something the child started still holds the pipe
        os.close(mine)
        return child, os.pidfd_open(child)
    return child, mine


def kill_group(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def be_child(module: str, path: str) -> None:
    """In the forked process: do the work and leave without running the parent's clean-up."""
    code = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        die_with_parent()
        limit_threads(path)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        work = importlib.import_module(module)  # starts threads, so never in the parent
        work.main(Path(path))
        code = 0
    except BaseException:  # noqa: BLE001  nothing may return into the parent's loop
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when the one that forked it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_threads(path: str) -> None:
    """Tell Polars how many threads it may start, which it reads when it is imported."""
    os.environ["POLARS_MAX_THREADS"] = str(json.loads(Path(path).read_text())["threads"])


def threads() -> int:
    """Native threads of this process; 1 where that cannot be told."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208  names are enough
    except OSError:
        return 1


def answer(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
