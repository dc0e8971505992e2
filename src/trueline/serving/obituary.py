"""What the process before this one died of: the version it was scoring or loading, and whether that is the version's fault.

The scoreboard has the version. A crash in native code leaves a trace (`faulthandler` writes it from the signal handler
itself), and whoever kills a process because it hangs marks the scoreboard. Then the version is to blame. A process that
vanished without a word was killed from outside, by a person or for lack of memory: that is journalled just the same, as a
bad event of what was being scored, but blames nobody.

One version may be loaded, in a thread of its own, while another one is scored. The trace has the stack of the thread that
crashed and so says which of them it was. Where it does not (a thread of the library's own, a hang), both are suspects:
each gets a process of its own, and from then on takes no other along.
"""

from __future__ import annotations

import faulthandler
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trueline.serving.scoreboard import Unfinished

FILE = "fault.txt"
_LOADS = re.compile(r'packaging/executors\.py", line \d+ in load$', re.MULTILINE)
_SCORES = re.compile(r'serving/runners\.py", line \d+ in run$', re.MULTILINE)


@dataclass(frozen=True)
class Obituary:
    """`unfinished`: whose bad event it is; `suspects`: versions to keep apart from now on."""

    unfinished: Unfinished
    sentence: str
    suspects: tuple[int, ...] = ()


def of(unfinished: Unfinished | None, journal: Path) -> Obituary | None:
    """What is known of the death of the process that left the scoreboard like this; None when it was at rest."""
    if unfinished is None:
        return None
    trace = _trace(journal / FILE)
    fault = trace.partition("\n")[0].removeprefix("Fatal Python error: ").lower()
    loads, scores = _LOADS.search(trace) is not None, _SCORES.search(trace) is not None
    beside = unfinished.beside
    if beside is not None and fault and loads:
        return _told(beside, fault, (beside.version,))
    if beside is not None and (unfinished.stuck or (fault and not scores)):
        return _told(unfinished, fault, (unfinished.version, beside.version))
    at_fault = unfinished.stuck or (fault and not (loads and not unfinished.loading))
    return _told(unfinished, fault, (unfinished.version,) if at_fault else ())


def _told(dead: Unfinished, fault: str, suspects: tuple[int, ...]) -> Obituary:
    doing = "loading" if dead.loading else "scoring"
    if dead.stuck:
        how = f"was killed because it did not come to an end {doing}"
    else:
        how = f"died{f' ({fault})' if fault else ''} while it was {doing}"
    sentence = f"the serving process {how} version {dead.version}"
    if len(suspects) > 1:
        sentence += f" and loading version {suspects[1]}: one of the two did it"
    return Obituary(dead, sentence, suspects)


def _trace(path: Path) -> str:
    """What a crash has left; its first line is like "Fatal Python error: Segmentation fault"."""
    with suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def write_into(journal: Path) -> IO[str] | None:
    """From now on a crash of this process leaves its trace; keep what this gives. None on a disk that is full."""
    with suppress(OSError):
        file = (journal / FILE).open("w")
        faulthandler.enable(file, all_threads=False)
        return file
    return None
