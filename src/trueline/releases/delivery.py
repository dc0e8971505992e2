"""Bringing a route table to every serving process, and bringing back what a person set there.

The table is an intent in the outbox, the effect is idempotent (a process refuses an older epoch and keeps an equal
one), the confirmation is every process's acknowledgement. The file is for restarts: it is written before the pushes,
so a process that starts in between reads the new table.
"""

from __future__ import annotations

import os
from pathlib import Path

from trueline.clock import Clock
from trueline.control import endpoints, releases
from trueline.domain.routes import RouteTable, decode, dumps, encode, loads
from trueline.errors import Unavailable
from trueline.settings import StateFolder
from trueline.sockets import ask
from trueline.store import outbox
from trueline.store.engine import Store

PUSH_SECONDS = 10.0


class Held(Exception):
    """A server has a table that a person set there and that control has not heard of."""

    def __init__(self, table: RouteTable) -> None:
        super().__init__(f"held at epoch {table.epoch}")
        self.table = table


def deliver(store: Store, folder: StateFolder, clock: Clock) -> bool:
    """Push the newest table that waits; True when there was one."""
    with store.read() as tx:
        waiting = outbox.pending(tx, ("route",))
        projects = {str(intent.payload["project"]) for intent in waiting}
        tables = {
            project: (endpoints.get(tx, project).table, endpoints.known_hold(tx, project)) for project in projects
        }
    for project, (table, hold) in tables.items():
        mine = [intent for intent in waiting if intent.payload["project"] == project]
        try:
            _push(folder, table, hold)
        except Held as news:
            with store.begin() as tx:
                endpoints.import_hold(tx, project, news.table)
            continue
        except Unavailable as problem:
            with store.begin() as tx:
                for intent in mine:
                    outbox.failed(tx, intent, str(problem))
            continue
        at = clock.wall()
        with store.begin() as tx:
            endpoints.acknowledge(tx, project, table.epoch)
            releases.acknowledged(tx, project, table.epoch, at)
            for intent in mine:
                outbox.done(tx, intent)
    return bool(waiting)


def _push(folder: StateFolder, table: RouteTable, hold: int | None) -> None:
    """To the file, then to every server; one that fails does not keep the others waiting for theirs."""
    write_routes(folder.routes, table)
    failures: list[Unavailable] = []
    for path in serving_sockets(folder):
        try:
            _push_to(path, table, hold)
        except Unavailable as problem:
            failures.append(problem)
    if failures:
        raise failures[0]


def _push_to(path: Path, table: RouteTable, hold: int | None) -> None:
    message = {"op": "route", "table": encode(table)}
    try:
        ask(path, message, timeout=PUSH_SECONDS)
    except Unavailable:
        status = ask(path, {"op": "status"}, timeout=PUSH_SECONDS)
        theirs = status.get("table")
        if status.get("hold") and theirs and int(status["epoch"]) != hold:
            raise Held(decode(theirs)) from None
        if status.get("hold"):
            ask(path, {**message, "over_hold": status["epoch"]}, timeout=PUSH_SECONDS)
        elif theirs is None or decode(theirs) != table:
            raise


def write_routes(path: Path, table: RouteTable) -> None:
    """Replace the routes' file atomically, unless a server has written a later table (a person's hold) meanwhile."""
    try:
        if loads(path.read_text()).epoch > table.epoch:
            return
    except (OSError, ValueError, TypeError, KeyError):
        pass  # there is none yet, or not one that can be read: ours is the better one
    draft = path.with_suffix(".draft")
    draft.write_text(dumps(table))
    os.replace(draft, path)  # noqa: PTH105 the atomic call, by its name


def serving_sockets(folder: StateFolder) -> list[Path]:
    """Sockets on which a serving process listens; those that a dead process left are not counted."""
    found = sorted(folder.sockets.glob("serve-*.sock"))
    return [path for path in found if _alive(path)]


def _alive(path: Path) -> bool:
    try:
        ask(path, {"op": "ping"}, timeout=PUSH_SECONDS)
    except Unavailable as problem:
        return not isinstance(problem.__cause__, (ConnectionRefusedError, FileNotFoundError))
    return True


def reconcile(store: Store, folder: StateFolder, project: str) -> None:
    """Find processes that lag behind or that a person has overridden; push to the first, import from the second."""
    with store.read() as tx:
        table, hold = endpoints.get(tx, project).table, endpoints.known_hold(tx, project)
    for path in serving_sockets(folder):
        try:
            status = ask(path, {"op": "status"}, timeout=PUSH_SECONDS)
        except Unavailable:
            continue  # it is starting or stopping; the next round sees
        theirs = status.get("table")
        if theirs and theirs.get("hold") and int(theirs["epoch"]) != hold:
            with store.begin() as tx:
                endpoints.import_hold(tx, project, decode(theirs))
        elif int(status.get("epoch", 0)) < table.epoch:
            with store.begin() as tx:
                if not outbox.count_open(tx, ("route",)):
                    again = f"route/{project}/{table.epoch}/again/{tx.wall.timestamp():.0f}"
                    outbox.put(tx, "route", again, {"project": project, "epoch": table.epoch})
