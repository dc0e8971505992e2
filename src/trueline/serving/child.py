"""The process of one version: load the model, then score batches from the pipe until the server closes it.

Started by `children.py` as `python -m trueline.serving.child FD FOLDER DIGEST`. It ends with the server: at the end of
the pipe when it is idle, by the kernel (PR_SET_PDEATHSIG) when it is stuck inside a model. What a model forks does not
have the pipe: it could answer in the child's place, and would keep the pipe open when the child is dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from time import perf_counter_ns

from trueline.packaging import executors
from trueline.packaging.executors import Executor
from trueline.packaging.feeds import Columns
from trueline.serving.pipe import LENGTH, Broken, FromChild, Ready, Refused, Values, Work, frame, work
from trueline.serving.runners import describe, judge

_PR_SET_PDEATHSIG = 1


def serve(pipe: socket.socket, executor: Executor) -> None:
    """Answer batches until the other end closes."""
    pipe.sendall(frame(Ready(tuples=executor.signature is not None)))
    while (payload := _receive(pipe)) is not None:
        pipe.sendall(frame(_score(executor, payload)))


def _score(executor: Executor, payload: bytes) -> FromChild:
    batch = work(payload)
    started = perf_counter_ns()
    try:
        scored = judge(executor.predict(_columns(executor, batch)), batch.rows, 0)
    except Exception as problem:  # noqa: BLE001  whatever a model raises is its failure
        return Refused(batch.number, (perf_counter_ns() - started) // 1000, "failed", describe(problem))
    spent = (perf_counter_ns() - started) // 1000
    if scored.values is None:
        return Refused(batch.number, spent, "invalid_output", scored.error or "")
    return Values(batch.number, spent, scored.values.astype("float64").tobytes())


def _columns(executor: Executor, batch: Work) -> Columns:
    if batch.tuples is None:
        return batch.columns or {}
    return dict(zip(executor.signature.names, zip(*batch.tuples, strict=True), strict=True))


def _receive(pipe: socket.socket) -> bytes | None:
    head = _exactly(pipe, LENGTH.size)
    if head is None:
        return None
    (length,) = LENGTH.unpack(head)
    return _exactly(pipe, length)


def _exactly(pipe: socket.socket, count: int) -> bytes | None:
    """`count` bytes, or None when the other end is gone."""
    parts = bytearray()
    while len(parts) < count:
        data = pipe.recv(min(count - len(parts), 1 << 20))
        if not data:
            return None
        parts += data
    return bytes(parts)


def main(arguments: list[str]) -> int:
    descriptor, folder, digest = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then closes the pipe
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with socket.socket(fileno=int(descriptor)) as pipe:
        pipe.set_inheritable(False)
        os.register_at_fork(after_in_child=pipe.close)
        try:
            executor = executors.load(Path(folder), digest or None)
        except Exception as problem:  # noqa: BLE001  loading runs what a model brings along
            pipe.sendall(frame(Broken(describe(problem))))
            return 1
        with contextlib.suppress(ConnectionError):  # the server is gone
            serve(pipe, executor)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
