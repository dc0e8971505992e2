"""The process that trainings are forked from: it has imported what is slow to import, and nothing else.

A fresh process per training costs two CPU-seconds of imports; a fork of this one costs milliseconds, and the user's
modules are still imported anew each time. Forking is sound only while no library has started a thread, so it preloads
only those that start none (scikit-learn and the converters, not Polars or ONNX Runtime) and counts its threads: with more
than one, or where forking is unsound anyway (macOS), each training gets a new interpreter instead.

Commands are lines on standard input: the path of a spec file; the answer is a line with the wait status of the process.
When standard input ends, the worker is gone: whatever is being trained is killed, for its run will be taken over.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
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


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    forks = sys.platform != "darwin" and threads() == 1
    answer("ready forks" if forks else "ready")
    pending = b""
    while chunk := os.read(0, 65536):
        pending += chunk
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            answer(str(raise_child(line.decode(), forks=forks)))


def raise_child(path: str, *, forks: bool) -> int:
    """Run one training to its end; answers its exit code, negative for the signal that killed it."""
    mine, theirs = os.pipe()  # theirs is open as long as the child lives, whatever becomes of it
    if forks:
        child = os.fork()
        if child == 0:
            os.close(mine)
            be_child(path)
    else:
        limit_threads(path)
        command = [sys.executable, "-m", "trueline.pipelines.child", path]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs]).pid
    os.close(theirs)
    while True:
        ready, _, _ = select.select([0, mine], [], [])
        if mine in ready:
            break
        if 0 in ready:  # nothing is sent while a training runs: this is the end of standard input
            os.killpg(0, signal.SIGKILL)
    os.close(mine)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def be_child(path: str) -> None:
    """In the forked process: train and leave without running the parent's clean-up."""
    code = 1
    try:
        die_with_parent()
        limit_threads(path)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        from trueline.pipelines import child  # noqa: PLC0415  starts threads, so never in the parent

        child.main(Path(path))
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
