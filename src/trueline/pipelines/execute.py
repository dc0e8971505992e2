"""Execute one training in a process of its own, and survive whatever becomes of it.

The worker keeps a `Trainer`. Its helper process (`nursery`) is started at the first training, or before by `warm`; it
leads a process group, so a training that outlives its time is killed with everything it started.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from trueline import errors
from trueline.errors import TrainingFailed, TruelineError, Unavailable
from trueline.pipelines import nursery
from trueline.pipelines.spec import LOG, MODEL, RESULT, TrainResult, TrainSpec, read_result, write_spec

START_SECONDS = 60.0


class Trainer:
    """Trains one run at a time; a context manager."""

    def __init__(self) -> None:
        self._nursery: subprocess.Popen[bytes] | None = None
        self._ready = False

    def warm(self) -> None:
        """Start the helper process now, so that the first training does not wait for its imports."""
        if self._nursery is None or self._nursery.poll() is not None:
            self.close()
            self._ready = False
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "trueline.pipelines.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **nursery.ENVIRONMENT},
                start_new_session=True,
            )

    def train(self, spec: TrainSpec) -> TrainResult:
        """Train; raises TrainingFailed, PackagingFailed or InvalidData with a sentence for the user, Unavailable to try again."""
        spec.folder.mkdir(parents=True, exist_ok=True)
        for leftover in (RESULT, LOG):
            (spec.folder / leftover).unlink(missing_ok=True)
        shutil.rmtree(spec.folder / MODEL, ignore_errors=True)
        path = write_spec(spec)
        try:
            exit_code = self._run(str(path), spec)
        except BaseException:
            self.close()
            raise
        found = read_result(spec.folder)
        if isinstance(found, TrainResult):
            return found
        if found is not None:
            kind, sentence = found
            raise getattr(errors, kind, TrainingFailed)(sentence)
        raise TrainingFailed(f"training {spec.entry} {_death(exit_code)}; what it printed is in {spec.folder / LOG}")

    def close(self) -> None:
        """End the helper and whatever it is training."""
        process, self._nursery = self._nursery, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # closing flushes what nobody reads any more
                if stream is not None:
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, path: str, spec: TrainSpec) -> int:
        self.warm()
        if not self._ready:
            self._line(START_SECONDS, Unavailable(f"no training process has started within {START_SECONDS:g} s"))
            self._ready = True
        process = self._nursery
        assert process is not None and process.stdin is not None  # noqa: S101, PT018  `warm` has just seen to it
        try:
            process.stdin.write(f"{path}\n".encode())
            process.stdin.flush()
        except BrokenPipeError:
            raise TrainingFailed(
                "the process that trainings start from has died; the run can be started again"
            ) from None
        answer = self._line(
            spec.timeout, TrainingFailed(f"training {spec.entry} took longer than {spec.timeout:g} s and was stopped")
        )
        return int(answer)

    def _line(self, seconds: float, otherwise: TruelineError) -> str:
        process = self._nursery
        assert process is not None and process.stdout is not None  # noqa: S101, PT018  as above
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise otherwise
            if not (chunk := os.read(process.stdout.fileno(), 1024)):
                raise Unavailable("the process that trainings start from has died; the run can be started again")
            line += chunk
        return line.decode().strip()


def _death(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "was killed (signal 9), most likely because the machine ran out of memory: train on fewer rows or a larger machine"
    if exit_code < 0:
        return f"died of signal {-exit_code} ({signal.strsignal(-exit_code)}), a crash inside a compiled library"
    return f"ended its process itself (exit code {exit_code}); fit must return, not exit"
