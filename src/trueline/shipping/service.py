"""The shipper as a process: it is asked over its Unix socket, and looks for itself every few seconds.

One JSON object per line in, one out:
ship {read_through?} → {ok, through}: everything accepted before the question is in the tables when the answer comes ·
ping → {ok, through}, and `stopped`, a sentence, while shipping waits for a person. A refusal is {ok: false, error}.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trueline.errors import Conflict, InvalidData, InvalidInput, TruelineError, Unavailable
from trueline.journal import segments
from trueline.settings import StateFolder
from trueline.shipping.ship import Shipper
from trueline.sockets import ask
from trueline.storage.places import Storage

log = logging.getLogger(__name__)

ROUND_SECONDS = 5.0
SEAL_SECONDS = 20.0
RETRY_SECONDS = 0.1


class Service:
    def __init__(self, state: StateFolder, replica: str, storage: Storage | None = None) -> None:
        self._admin = state.socket(f"serve-{replica}")
        self._shipper = Shipper(state, replica, storage)
        self._one_at_a_time = asyncio.Lock()
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._stopped: str | None = None  # why shipping does not go on by itself

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, line by line, until he goes away."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a stream server calls this in a task
        self._talks[task] = writer
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self.answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):  # he went away, or sent a line without end
            pass
        finally:
            writer.close()
            del self._talks[task]

    async def hang_up(self) -> None:
        """Hang up on whoever is still connected."""
        for writer in self._talks.values():
            writer.transport.abort()
        if self._talks:
            await asyncio.wait(tuple(self._talks), timeout=1.0)

    async def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one line; a refusal is an answer too."""
        try:
            through = await self._do(_parse(line))
            return {"ok": True, "through": through} | ({"stopped": self._stopped} if self._stopped else {})
        except TruelineError as error:
            return {"ok": False, "error": str(error), "status": error.status}
        except Exception as defect:
            log.exception("a defect in trueline, in answer to %r", line[:200])
            return {"ok": False, "error": f"unexpected: {type(defect).__name__}", "status": 500}

    async def _do(self, fields: Mapping[str, Any]) -> int:
        match fields:
            case {"op": "ship"}:
                return await self.ship(_read_through(fields))
            case {"op": "ping"}:
                return self._shipper.through
        raise InvalidInput("expected an object with 'op', one of ship, ping")

    async def ship(self, read_through: int | None = None) -> int:
        """Seal, ship everything sealed, and delete the segments up to `read_through` that both tables have."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._ship, read_through)

    async def look(self) -> None:
        """Ship if there is anything to ship; trouble is said and tried again at the next look."""
        try:
            if await asyncio.to_thread(self._waiting):
                await self.ship()
        except InvalidData as problem:
            if str(problem) != self._stopped:  # said once: it stays until somebody acts
                log.warning("%s", problem)
            self._stopped = str(problem)
        except TruelineError as problem:
            log.warning("%s", problem)
        except Exception:
            log.exception("a defect in trueline; trying again")

    def _ship(self, read_through: int | None) -> int:
        seal(self._shipper.journal, self._admin)
        through = self._shipper.ship_sealed()
        self._stopped = None
        if read_through is not None:
            self._shipper.delete_through(read_through)
        return through

    def _waiting(self) -> bool:
        present = segments.numbers(self._shipper.journal)
        if not present:
            return False
        unshipped = present[-1] - 1 > self._shipper.done
        return unshipped or segments.path_of(self._shipper.journal, present[-1]).stat().st_size > 0


def seal(journal: Path, admin: Path, *, seconds: float = SEAL_SECONDS) -> int:
    """Have the journal sealed by the server that writes it or, when it is down, under its lock.

    A server that is starting or draining holds the lock and does not answer, so both are tried until one works.

    Raises:
        Conflict: neither did in `seconds`.
        Unavailable: the journal cannot be written.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return int(ask(admin, {"op": "seal"}, timeout=seconds)["segment"])
        except Unavailable as silent:
            try:
                return segments.seal(journal)
            except Conflict:
                if time.monotonic() >= deadline:
                    raise Conflict(f"the journal {journal} could not be sealed: {silent}") from silent
        time.sleep(RETRY_SECONDS)


async def serve(state: StateFolder, replica: str, stopping: asyncio.Event, storage: Storage | None = None) -> None:
    """Answer and look until told to stop; then ship once more."""
    service = Service(state, replica, storage)
    path = state.socket(f"shipper-{replica}")
    server = await _listen(service, path)
    try:
        while not stopping.is_set():
            await service.look()
            try:
                await asyncio.wait_for(stopping.wait(), ROUND_SECONDS)
            except TimeoutError:
                continue
        await service.look()
    finally:
        server.close()
        await service.hang_up()
        path.unlink(missing_ok=True)


async def _listen(service: Service, path: Path) -> asyncio.Server:
    try:
        path.unlink(missing_ok=True)  # noqa: ASYNC240  of a process that is gone; not worth a thread
        server = await asyncio.start_unix_server(service.talk, path)
        os.chmod(path, 0o600)  # noqa: PTH101  likewise
    except OSError as problem:
        raise Unavailable(f"the socket {path} cannot be opened: {problem.strerror or problem}") from problem
    return server


def _parse(line: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    return fields if isinstance(fields, dict) else {}


def _read_through(fields: Mapping[str, Any]) -> int | None:
    number = fields.get("read_through")
    if number is None or (isinstance(number, int) and not isinstance(number, bool)):
        return number
    raise InvalidInput(f"read_through must be a segment's number, not {number!r}")
