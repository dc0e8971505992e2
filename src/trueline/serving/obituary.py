"""What the process before this one died of: the version it was scoring, and whether that is the version's fault.

The scoreboard has the version. A crash in native code leaves a trace (`faulthandler` writes it from the signal handler
itself), and whoever kills a process because it hangs marks the scoreboard. Then the version is to blame. A process that
vanished without a word was killed from outside, by a person or for lack of memory: that is journalled just the same, as a
bad event of what was being scored, but blames nobody.
"""

from __future__ import annotations

import faulthandler
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trueline.serving.scoreboard import Unfinished

FILE = "fault.txt"


@dataclass(frozen=True)
class Obituary:
    unfinished: Unfinished
    sentence: str
    to_blame: bool


def of(unfinished: Unfinished | None, journal: Path) -> Obituary | None:
    """What is known of the death of the process that left the scoreboard like this; None when it was at rest."""
    if unfinished is None:
        return None
    fault = _fault(journal / FILE)
    doing = "loading" if unfinished.loading else "scoring"
    if unfinished.stuck:
        how = f"was killed because it did not come to an end {doing}"
    else:
        how = f"died{f' ({fault})' if fault else ''} while it was {doing}"
    sentence = f"the serving process {how} version {unfinished.version}"
    return Obituary(unfinished, sentence, to_blame=unfinished.stuck or fault is not None)


def _fault(path: Path) -> str | None:
    """The first line of a trace, "Fatal Python error: Segmentation fault", in few words."""
    with suppress(OSError):
        first = path.read_text(errors="replace").strip().partition("\n")[0]
        return first.removeprefix("Fatal Python error: ").lower() or None
    return None


def write_into(journal: Path) -> IO[str] | None:
    """From now on a crash of this process leaves its trace; keep what this gives. None on a disk that is full."""
    with suppress(OSError):
        file = (journal / FILE).open("w")
        faulthandler.enable(file, all_threads=False)
        return file
    return None
