"""Bringing a route table to every serving process, and bringing back what a person set there.

The table is an intent in the outbox, the effect is idempotent (a process refuses an older epoch and keeps an equal
one), the confirmation is every process's acknowledgement. The file is for restarts: it is written before the pushes,
so a process that starts in between reads the new table. All processes are asked side by side: one that first has to load
a version, or that hangs, keeps no other waiting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from trueline import audits, catalogue, routefile
from trueline.control import endpoints, releases, servers
from trueline.domain.routes import RouteTable, decode, encode
from trueline.errors import Unavailable
from trueline.settings import StateFolder
from trueline.sockets import ask, ask_each
from trueline.store import outbox
from trueline.store.engine import Store

PUSH_SECONDS = 10.0
STATUS = {"op": "status", "at_once": True}


class Held(Exception):
    """A server has a table that a person set there and that control has not heard of."""

    def __init__(self, table: RouteTable) -> None:
        super().__init__(f"held at epoch {table.epoch}")
        self.table = table


Bring = Callable[[RouteTable], RouteTable]
"""Has the models of a table brought to this machine's state folder; the table without shadows that are still to come.
Unavailable while a model is missing that is to answer."""


def at_hand(table: RouteTable) -> RouteTable:
    """Models lie where they were trained: nothing is to be brought."""
    return table


def deliver(store: Store, folder: StateFolder, project: str, bring: Bring = at_hand) -> bool:
    """Push the project's table when one waits; True when there was one."""
    with store.read() as tx:
        waiting = outbox.pending(tx, project, ("route",))
        table, holds = endpoints.get(tx, project).table, endpoints.known_holds(tx, project)
    if not waiting:
        return False
    try:
        brought = bring(table)
        _push(folder, brought, holds)
    except Held as news:
        with store.begin() as tx:
            endpoints.import_hold(tx, project, news.table)
        return True
    except Unavailable as problem:
        with store.begin() as tx:
            for intent in waiting:
                outbox.failed(tx, intent, str(problem))
        return True
    with store.begin() as tx:
        endpoints.acknowledge(tx, project, table.epoch)
        releases.acknowledged(tx, project, table.epoch)
        for intent in waiting:
            if brought == table:
                outbox.done(tx, intent)
            else:
                outbox.failed(tx, intent, "shadows are left out until their models are on this machine")
    return True


def located(table: RouteTable, folder: StateFolder) -> RouteTable:
    """The table as this machine's servers need it: with paths under its own state folder."""
    root = folder.root.resolve()
    return replace(table, routes=tuple(replace(one, path=str(root / one.path)) for one in table.routes))


def portable(table: RouteTable, folder: StateFolder) -> RouteTable:
    """The inverse: as control keeps it, and as every machine can read it."""
    root = f"{folder.root.resolve()}{os.sep}"
    return replace(table, routes=tuple(replace(one, path=one.path.removeprefix(root)) for one in table.routes))


def _push(folder: StateFolder, table: RouteTable, holds: frozenset[str]) -> None:
    """To the file, then to every server at once; one that fails does not keep the others waiting for theirs."""
    failures: list[Unavailable] = []
    try:
        routefile.write(folder.routes, located(table, folder))
    except Unavailable as problem:  # a full disk must not keep a rollback from the servers
        failures.append(problem)
    news: Held | None = None
    message = {"op": "route", "table": encode(located(table, folder))}
    for path, answer in ask_each(_sockets(folder), message, timeout=PUSH_SECONDS):
        if not isinstance(answer, Unavailable) or _dead(answer):
            continue
        try:
            _insist(path, folder, table, holds, answer)
        except Held as held:
            news = held
        except Unavailable as problem:
            failures += [] if _dead(problem) else [problem]
    if news is not None:
        raise news
    if failures:
        raise failures[0]


def _push_to(path: Path, folder: StateFolder, table: RouteTable, holds: frozenset[str]) -> None:
    try:
        ask(path, {"op": "route", "table": encode(located(table, folder))}, timeout=PUSH_SECONDS)
    except Unavailable as problem:
        if _dead(problem):
            raise
        _insist(path, folder, table, holds, problem)


def _insist(path: Path, folder: StateFolder, table: RouteTable, holds: frozenset[str], refusal: Unavailable) -> None:
    """A server did not take the table: was it for a person's hold, known here or not, or has it the table after all?"""
    status = ask(path, STATUS, timeout=PUSH_SECONDS)
    theirs = _theirs(status, folder)
    if status.get("hold") and theirs is not None and endpoints.mark(theirs) not in holds:
        raise Held(theirs)
    if status.get("hold"):
        message = {"op": "route", "table": encode(located(table, folder)), "over_hold": status["epoch"]}
        ask(path, message, timeout=PUSH_SECONDS)
    elif theirs != table:
        raise _still_loading(path, status, refusal) or refusal


def _still_loading(path: Path, status: Mapping[str, Any], silence: Unavailable) -> Unavailable | None:
    """What to say of a server that has not answered yet because it loads a version; None when that is not why."""
    for one in status.get("loading", ()) if isinstance(silence.__cause__, TimeoutError) else ():
        before = f"; the last attempt failed: {one['failed']}" if one["failed"] else ""
        return Unavailable(f"{path.stem} is still loading version {one['version']}{before}")
    return None


def _theirs(status: Mapping[str, Any], folder: StateFolder) -> RouteTable | None:
    """The table a server says it has in force."""
    return portable(decode(status["table"]), folder) if status.get("table") else None


def serving_sockets(folder: StateFolder) -> list[Path]:
    """Sockets on which a serving process listens; those that a dead process left are not counted."""
    return [path for path in _sockets(folder) if _alive(path)]


def _sockets(folder: StateFolder) -> list[Path]:
    return sorted(folder.sockets.glob("serve-*.sock"))


def _alive(path: Path) -> bool:
    try:
        ask(path, {"op": "ping"}, timeout=PUSH_SECONDS)
    except Unavailable as problem:
        return not _dead(problem)
    return True


def _dead(problem: Unavailable) -> bool:
    """Whether nobody listens on the socket: its process is gone, and the next one reads the file."""
    return isinstance(problem.__cause__, (ConnectionRefusedError, FileNotFoundError))


def reconcile(store: Store, folder: StateFolder, project: str, bring: Bring = at_hand) -> None:
    """Find processes that lag behind or that a person has overridden; push to the first, import from the second.

    Each control process does so for the servers of its own machine, whoever leads: the leader's delivery reaches no
    others. What is refused or away is found again in the next round.
    """
    _exchange(store, folder, project)
    with store.read() as tx:
        table, holds = endpoints.get(tx, project).table, endpoints.known_holds(tx, project)
    for path in serving_sockets(folder):
        try:
            status = ask(path, STATUS, timeout=PUSH_SECONDS)
        except Unavailable:
            continue  # it is starting or stopping; the next round sees
        _tell_contained(store, project, str(status.get("replica", path.stem)), status.get("contained", ()))
        theirs = _theirs(status, folder)
        if theirs is not None and theirs.hold and endpoints.mark(theirs) not in holds:
            with store.begin() as tx:
                endpoints.import_hold(tx, project, theirs)
        elif int(status.get("epoch", 0)) <= table.epoch and theirs != table:
            with suppress(Unavailable, Held):
                brought = bring(table)
                if brought != theirs:
                    with suppress(Unavailable):  # a full disk must not keep a rollback from the servers
                        routefile.write(folder.routes, located(brought, folder))
                    _push_to(path, folder, brought, holds)


def _exchange(store: Store, folder: StateFolder, project: str) -> None:
    """Tell servers which versions are registered, and make events of what they were asked to load and unload."""
    with store.read() as tx:
        known = servers.registered(tx, project, folder)
    with suppress(Unavailable):  # a full disk: they can load what they heard of before
        catalogue.write(folder.catalogue, known)
    notes = audits.waiting(folder.audits)
    if notes:
        with store.begin() as tx:
            servers.import_notes(tx, project, [(path.name, note) for path, note in notes])
        for path, _ in notes:
            path.unlink(missing_ok=True)


def _tell_contained(store: Store, project: str, replica: str, contained: Sequence[Mapping[str, Any]]) -> None:
    """An event for each version that a serving process died of, once."""
    with store.read() as tx:
        news = [one for one in contained if not endpoints.knows_contained(tx, project, str(one["digest"]))]
    if news:
        with store.begin() as tx:
            for one in news:
                endpoints.import_contained(
                    tx, project, int(one["version"]), str(one["digest"]), str(one["reason"]), replica
                )
