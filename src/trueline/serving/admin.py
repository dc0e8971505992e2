"""The Unix socket by which control, the shipper and an operator on the machine steer one serving process.

One JSON object per line in, one out, in order:
route {table, over_hold?} · override {table} · status {at_once?} · seal · metrics · counters · ping · load {version, path, digest} · unload {version}. Answers have `ok`; a refusal has `error` and
the epoch in force. `status` and `seal` first wait for the shadow scores that are owed, so that what follows a barrier
sees complete pairs; but not for ever: a version that is always busy with requests does not come to them. Who wants to know
what is in force, to change it, asks for the status `at_once`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from trueline.domain import routes
from trueline.domain.routes import RouteTable
from trueline.errors import Conflict, InvalidInput, TruelineError, Unavailable
from trueline.serving import exposition
from trueline.serving.contained import Contained
from trueline.serving.dataplane import DataPlane
from trueline.serving.predict import decode_json
from trueline.serving.repository import Repository
from trueline.serving.siblings import Counters

log = logging.getLogger(__name__)

LINE_BYTES = 1 << 20
STATUS_SECONDS = 5.0
SEAL_SECONDS = 15.0
"""How long shadow scores are waited for: shorter than anybody waits for a status, and the shipper for a seal."""

Fields = Mapping[str, Any]
Operation = Callable[[Fields], Awaitable[dict[str, Any]]]


class Admin:
    def __init__(
        self, plane: DataPlane, replica: str, counters: Counters, contained: Contained, repository: Repository
    ) -> None:
        self._plane = plane
        self._replica = replica
        self._counters = counters
        self._contained = contained
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._closing = False
        self._operations: dict[str, Operation] = {
            "route": self._route,
            "override": self._override,
            "status": self._status,
            "seal": self._seal,
            "metrics": self._metrics,
            "counters": self._told,
            "ping": self._ping,
            "load": repository.obey,
            "unload": repository.obey,
        }

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, line by line, until he goes away."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a stream server calls this in a task
        self._talks[task] = writer
        encode = msgspec.json.Encoder().encode
        try:
            while not self._closing and (line := await reader.readline()):
                self._answering.add(task)
                answer = await self.answer(line)
                self._answering.discard(task)
                if writer.is_closing():  # he was hung up on, and uvloop takes a word to him for a mistake
                    break
                writer.write(encode(answer) + b"\n")
                await writer.drain()
        except (OSError, ValueError):  # he went away, or sent a line without end
            pass
        finally:
            writer.close()
            self._answering.discard(task)
            del self._talks[task]

    async def close(self) -> None:
        """Hang up on whoever is still connected; who is being answered has a moment to hear it."""
        self._closing = True
        for task, writer in self._talks.items():
            if task not in self._answering:
                writer.transport.abort()
        if self._talks:
            await asyncio.wait(tuple(self._talks), timeout=1.0)
        for writer in self._talks.values():
            writer.transport.abort()

    async def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one line; a refusal is an answer too."""
        versions = self._plane.versions
        try:
            fields = decode_json(line)
            return {"ok": True, **await self._operation(fields)(fields)}
        except TruelineError as error:
            standing = versions.standing.table
            refusal = {"ok": False, "error": str(error), "status": error.status, "epoch": standing.epoch}
            if isinstance(error, Conflict):
                refusal |= {"hold": standing.hold, "table": routes.encode(standing)}
            return refusal
        except Exception as defect:
            log.exception("a defect in trueline, in the admin operation %r", line[:200])
            return {"ok": False, "error": f"unexpected: {type(defect).__name__}", "status": 500}

    def _operation(self, fields: Any) -> Operation:
        named = fields.get("op") if isinstance(fields, dict) else None
        if not isinstance(named, str) or named not in self._operations:
            raise InvalidInput(f"expected an object with 'op', one of {', '.join(self._operations)}")
        return self._operations[named]

    async def _route(self, fields: Fields) -> dict[str, Any]:
        table = await self._plane.versions.put(_table(fields), over_hold=fields.get("over_hold"))
        return {"epoch": table.epoch}

    async def _override(self, fields: Fields) -> dict[str, Any]:
        table = await self._plane.versions.override(_table(fields))
        log.warning(
            "epoch %d was set on this server and holds: %s", table.epoch, fields.get("reason", "no reason given")
        )
        return {"epoch": table.epoch, "table": routes.encode(table)}

    async def _status(self, fields: Fields) -> dict[str, Any]:
        plane = self._plane
        if fields.get("at_once") is not True:
            await self._shadows_are_made(STATUS_SECONDS)
        table = plane.versions.standing.table
        return {
            "replica": self._replica,
            "pid": os.getpid(),
            "model": table.model,
            "epoch": table.epoch,
            "hold": table.hold,
            "release": table.release,
            "table": routes.encode(table),
            "loaded": [{"version": one.version, "executor": one.runner.kind} for one in plane.versions.loaded],
            "loading": [{"version": one, "failed": why} for one, why in plane.versions.loading.items()],
            "in_progress": plane.metrics.in_progress,
            "predictions": plane.counts.predictions,
            "shadows": plane.counts.shadows,
            "labels": plane.counts.labels,
            "unrecorded": plane.metrics.unrecorded,
            "journal_problem": plane.journal_problem,
            "segment": plane.journal.segment,
            "journal_bytes": plane.journal.bytes_written,
            "contained": self._kept_apart(),
            "machine": exposition.totals(await self._counters.everybody()),
        }

    def _kept_apart(self) -> list[dict[str, Any]]:
        """Loaded versions that a serving process died of, and that have one of their own since."""
        reasons = self._contained.all()
        loaded = self._plane.versions.loaded
        return [
            {"version": one.version, "digest": one.digest, "reason": reasons[one.digest]}
            for one in loaded
            if one.digest in reasons
        ]

    async def _seal(self, fields: Fields) -> dict[str, Any]:
        del fields
        await self._shadows_are_made(SEAL_SECONDS)
        return {"segment": self._plane.journal.seal()}

    async def _shadows_are_made(self, seconds: float) -> None:
        """Those that are owed by now, in this time or later: then their records follow."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._plane.versions.drain_shadows()

    async def _ping(self, fields: Fields) -> dict[str, Any]:
        del fields
        plane = self._plane
        recording = {"unrecorded": plane.metrics.unrecorded, "journal_problem": plane.journal_problem}
        return {
            "replica": self._replica,
            "pid": os.getpid(),
            "life": plane.prefix,
            "ready": plane.versions.answers,
            **recording,
        }

    async def _metrics(self, fields: Fields) -> dict[str, Any]:
        """The text of `/metrics`: of all processes of this machine that answer on the port."""
        del fields
        return {"text": exposition.render(await self._counters.everybody())}

    async def _told(self, fields: Fields) -> dict[str, Any]:
        """The counters of this process alone, for a sibling that is asked for the sum."""
        del fields
        return self._counters.told()


async def listen(admin: Admin, path: Path) -> asyncio.Server:
    """Serve the admin socket, readable by its owner only; Unavailable when another process has it."""
    try:
        _make_way(path)
        server = await asyncio.start_unix_server(admin.talk, path, limit=LINE_BYTES)
        os.chmod(path, 0o600)  # noqa: PTH101  not worth a thread
    except OSError as problem:
        raise Unavailable(f"the admin socket {path} cannot be opened: {problem.strerror or problem}") from problem
    return server


def _make_way(path: Path) -> None:
    """Make the folder and remove the socket of a process that is gone (a living one holds the journal's lock)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def _table(fields: Fields) -> RouteTable:
    try:
        return routes.decode(fields["table"])
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InvalidInput(f"'table' is not a route table: {problem}") from None
