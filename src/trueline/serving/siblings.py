"""One view of the counters of all processes that answer on one port: whichever is asked tells the sum.

Theory of operation. Prometheus takes any step back of a counter for a restart and counts the whole new value as news,
so a sum must never fall because one of its processes died. Therefore a process writes its counters to a file *before*
it tells them to anybody: to a scrape, or to a sibling that is being scraped. Whoever answers a scrape asks its living
siblings, with a short deadline, and reads the files of those that do not answer. A process that is started again goes on
from its own file, which holds at least what was ever shown of it. What a killed process had counted since it last wrote
the file, which it does every few seconds too, is missing; the journal has it all the same.

`group` names the run of the parent that started the processes: files of an earlier run are not counted, so that with
the parent everything begins at zero, at once, which is the restart that Prometheus expects. Gauges are of the living only.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from trueline.serving import exposition
from trueline.serving.exposition import Snapshot
from trueline.settings import StateFolder

log = logging.getLogger(__name__)

ASK_SECONDS = 0.25  # a sibling that is scoring a long batch is read from its file
FILE = "counters.json"
LINE_BYTES = 1 << 24


class Counters:
    """The counters of one process, and the way to those of its siblings."""

    def __init__(self, state: StateFolder, replica: str, group: str, own: Callable[[], Snapshot]) -> None:
        self._state = state
        self._replica = replica
        self._group = group
        self._own = own
        self._before = _read(state.journal(replica) / FILE, group) or {}
        self._said = False

    def tell(self) -> Snapshot:
        """This process's counters with those of its earlier lives, once they are kept."""
        found = exposition.together([self._before, self._own()])
        self._keep(found)
        return found

    def told(self) -> dict[str, Any]:
        """The same for a sibling that asks."""
        return {"group": self._group, "counters": exposition.pack(self.tell())}

    async def everybody(self) -> Snapshot:
        """The sum over all processes of the group, the dead ones' counters included."""
        mine = self._state.socket(f"serve-{self._replica}")
        paths = [path for path in sorted(self._state.sockets.glob("serve-*.sock")) if path != mine]
        answers = await asyncio.gather(*(self._ask(path) for path in paths))
        living = {path.stem.removeprefix("serve-"): one for path, one in zip(paths, answers, strict=True) if one}
        silent = [one for name, one in self._files().items() if name not in living and name != self._replica]
        return exposition.together([self.tell(), *living.values(), *map(exposition.lasting, silent)])

    async def _ask(self, path: Path) -> Snapshot | None:
        """A sibling's counters; None for one that is gone, busy, or of another group."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES)
                try:
                    writer.write(b'{"op":"counters"}\n')
                    fields = msgspec.json.decode(await reader.readline())
                finally:
                    writer.close()
            return exposition.unpack(fields["counters"]) if fields.get("group") == self._group else None
        except (OSError, TimeoutError, ValueError, KeyError, AttributeError, TypeError):
            return None  # while processes are replaced, some are of another trueline

    def _files(self) -> dict[str, Snapshot]:
        found = {path.parent.name: _read(path, self._group) for path in self._state.journals.glob(f"*/{FILE}")}
        return {name: one for name, one in found.items() if one is not None}

    def _keep(self, counters: Snapshot) -> None:
        path = self._state.journal(self._replica) / FILE
        draft = path.with_suffix(".draft")
        fields = {"group": self._group, "counters": exposition.pack(exposition.lasting(counters))}
        try:
            draft.write_bytes(msgspec.json.encode(fields))
            os.replace(draft, path)  # noqa: PTH105  the atomic call, by its name
        except OSError as problem:  # a full disk must not hide the counters that tell of it
            if not self._said:
                log.warning("%s cannot be written (%s); after a crash counters begin anew", path, problem.strerror)
            self._said = True


def _read(path: Path, group: str) -> Snapshot | None:
    """The counters in a file, if they are of this group."""
    try:
        fields = msgspec.json.decode(path.read_bytes())
        return exposition.unpack(fields["counters"]) if fields["group"] == group else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
