"""CPU seconds of calls, commands and running servers (Linux: it reads /proc).

Wall time on a shared machine says how busy the neighbours are. CPU seconds are disturbed too, by caches that others empty,
so that both sides of a ratio are measured in turns and each keeps its best round: the one least disturbed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TICK = 1 / os.sysconf("SC_CLK_TCK")
NULL = subprocess.DEVNULL


def of_call(call: Callable[[], Any]) -> float:
    """CPU seconds of this process, all its threads, during a call."""
    before = time.process_time()
    call()
    return time.process_time() - before


def best_in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The least CPU seconds of each of several calls, made in turns."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            best[name] = min(best[name], of_call(call))
    return best


def of_command(command: Sequence[str], **options: Any) -> float:
    """CPU seconds of a command and of everything it waited for; CalledProcessError when it fails."""
    process = subprocess.Popen(command, stdout=NULL, stderr=NULL, **options)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime


def of_tree(pid: int) -> float:
    """CPU seconds so far of a running process and of all its children, also those that ended, to a hundredth."""
    return sum(_of_process(one) for one in tree(pid))


def memory_of_tree(pid: int) -> float:
    """Resident MiB of a running process and its running children; what they map from the same files counts once."""
    sizes = [_resident(one) for one in tree(pid)]
    shared = ("RssFile", "RssShmem")
    return (sum(one["RssAnon"] for one in sizes) + sum(max(one[kind] for one in sizes) for kind in shared)) / 1024


def tree(pid: int) -> list[int]:
    """A running process and all its running descendants."""
    found = [pid]
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += tree(int(child))
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        pass
    return found


def _of_process(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) * TICK  # its own, and that of the children it has waited for


def _resident(pid: int) -> dict[str, int]:
    """KiB by kind."""
    sizes = {"RssAnon": 0, "RssFile": 0, "RssShmem": 0}
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, size = line.partition(":")
            if name in sizes:
                sizes[name] = int(size.split()[0])
    return sizes


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes started inside stay on one core, where the machine has more than one."""
    allowed = os.sched_getaffinity(0)
    cores = sorted(allowed)
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
