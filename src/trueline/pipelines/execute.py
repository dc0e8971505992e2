"""Execute one training in a process of its own, and survive whatever becomes of it."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from trueline import errors
from trueline.errors import TrainingFailed
from trueline.pipelines.fresh import Processes
from trueline.pipelines.spec import LOG, MODEL, RESULT, TrainResult, TrainSpec, read_result, write_spec


class Trainer:
    """Trains one run at a time; a context manager."""

    def __init__(self, processes: Processes | None = None) -> None:
        self.processes = processes or Processes()

    def warm(self) -> None:
        self.processes.warm()

    def train(self, spec: TrainSpec) -> TrainResult:
        """Train; raises TrainingFailed, PackagingFailed or InvalidData with a sentence for the user, Unavailable to try again."""
        spec.folder.mkdir(parents=True, exist_ok=True)
        for leftover in (RESULT, LOG):
            (spec.folder / leftover).unlink(missing_ok=True)
        shutil.rmtree(spec.folder / MODEL, ignore_errors=True)
        path = write_spec(spec)
        try:
            exit_code = run_alone(self.processes, "trueline.pipelines.child", path, spec.timeout)
        except BaseException:
            self.close()
            raise
        found = read_result(spec.folder)
        if isinstance(found, TrainResult):
            return found
        if found is not None:
            kind, sentence = found
            raise getattr(errors, kind, TrainingFailed)(sentence)
        if exit_code is None:
            raise TrainingFailed(f"training {spec.entry} took longer than {spec.timeout:g} s and was stopped")
        raise TrainingFailed(f"training {spec.entry} {death(exit_code)}; what it printed is in {spec.folder / LOG}")

    def close(self) -> None:
        """End the helper and whatever it is training."""
        self.processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_alone(processes: Processes, module: str, spec: Path, seconds: float) -> int | None:
    """Run one process to its end; its exit code, or None when its time was up and it was stopped."""
    job = processes.start(module, spec)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if (ended := processes.wait(left)) and job in ended:
            return ended[job]
    processes.kill(job)
    while job not in processes.wait(1.0):
        continue
    return None


def death(exit_code: int) -> str:
    """What an exit code says of a process that left no result."""
    if exit_code == -signal.SIGKILL:
        return "was killed (signal 9), most likely because the machine ran out of memory: train on fewer rows or a larger machine"
    if exit_code < 0:
        return f"died of signal {-exit_code} ({signal.strsignal(-exit_code)}), a crash inside a compiled library"
    return f"ended its process itself (exit code {exit_code}); it must return, not exit"
