"""What the servers of this machine could not record, as an incident: one while it lasts, however many servers it hits.

Each server counts for itself since its start, so what is kept of it here is that life of it and the count it had when
it was last heard: what is more since then is new, whoever asks, and after whatever death. A full disk is often the
database's disk too; then the incident is opened when there is room again, with the whole count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from trueline.control import endpoints, incidents
from trueline.domain.incidents import IncidentKind
from trueline.errors import Unavailable
from trueline.settings import StateFolder
from trueline.sockets import ask
from trueline.store import meta
from trueline.store.engine import Store, Tx

GONE_SECONDS = 30.0
"""A server that was in trouble and is away for so long records nothing because it answers nothing."""
ASK_SECONDS = 1.0
FRESH_SECONDS = 3.0


@dataclass(frozen=True)
class Recording:
    """What one server says of its journal."""

    replica: str
    life: str  # of its process: another one counts from 0
    unrecorded: int  # predictions it answered without recording them, since its start
    problem: str | None = None  # why it cannot record now
    shipping: str | None = None  # why what is recorded stays in the journal until somebody acts

    @property
    def trouble(self) -> str | None:
        return self.problem or self.shipping


Known = Mapping[str, Recording]
"""By replica: those that have been in trouble, as they were last heard."""


class Watch:
    """Asks this machine's servers, and remembers when each was last heard."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._heard: dict[str, float] = {}
        self._seen: tuple[Recording, ...] = ()
        self._looked = -FRESH_SECONDS

    def troubles(self) -> tuple[Recording, ...]:
        """The servers that cannot record now, or did not before; from the last look, if that is fresh."""
        if time.monotonic() - self._looked >= FRESH_SECONDS:
            self.look()
        return tuple(one for one in self._seen if one.unrecorded or one.trouble)

    def look(self) -> tuple[Recording, ...]:
        found = [_ask(self._folder, path.stem) for path in sorted(self._folder.sockets.glob("serve-*.sock"))]
        self._seen, self._looked = tuple(one for one in found if one is not None), time.monotonic()
        self._heard |= dict.fromkeys((one.replica for one in self._seen), self._looked)
        return self._seen

    def heed(self, store: Store, project: str) -> None:
        """Let what was seen open, keep current or close the incident; nothing is written while nothing changes."""
        with store.read() as tx:
            known = _known(tx, project)
        if self._after(known) != known:
            with store.begin() as tx:
                known = _known(tx, project)
                _take(tx, project, known, self._after(known), self._seen)

    def _after(self, known: Known) -> Known:
        """What is known now: servers that lost nothing are not kept, those that are gone are in no trouble."""
        after = {name: one for name, one in known.items() if not self._is_gone(one)}
        for one in self._seen:
            if one.unrecorded or one.trouble or one.replica in known:
                after[one.replica] = one
        return {name: one for name, one in after.items() if one.unrecorded or one.trouble}

    def _is_gone(self, one: Recording) -> bool:
        if not self._folder.journal(one.replica).exists():  # another machine's, which looks after it
            return False
        since = self._heard.setdefault(one.replica, self._looked)
        return self._looked - since > GONE_SECONDS


def lost(known: Known, seen: Sequence[Recording]) -> int:
    """How many predictions went unrecorded since each server was last heard.

    >>> before = {"r0": Recording("r0", "a", 3)}
    >>> lost(before, [Recording("r0", "a", 5)]), lost(before, [Recording("r0", "b", 5)]), lost({}, [Recording("r1", "c", 2)])
    (2, 5, 2)
    """
    return sum(one.unrecorded - _counted(known.get(one.replica), one) for one in seen)


def _counted(before: Recording | None, one: Recording) -> int:
    return before.unrecorded if before is not None and before.life == one.life else 0


def _take(tx: Tx, project: str, known: Known, after: Known, seen: Sequence[Recording]) -> None:
    champion = endpoints.get(tx, project).champion
    if champion is None:  # nothing is answered, so nothing is missing
        return
    meta.put(tx, _key(project), json.dumps({name: vars(one) for name, one in after.items()}))
    more = lost(known, seen)
    troubles = [one for one in after.values() if one.trouble]
    incident = incidents.open_one(tx, project, IncidentKind.journal)
    total = more + ((incident.cause or {}).get("unrecorded", 0) if incident is not None else 0)
    cause = {"unrecorded": total, "servers": ", ".join(one.replica for one in troubles)}
    if incident is None and (more or troubles):
        detail = {"unrecorded": total, "servers": cause["servers"]}
        incident = incidents.raise_one(
            tx,
            project,
            version=champion,
            reason=sentence(troubles, total),
            advice=_advice(troubles),
            detail=detail,
            kind=IncidentKind.journal,
            cause=cause,
        )
    elif incident is not None and troubles:
        incidents.restate(tx, incident, reason=sentence(troubles, total), cause=cause)
    if incident is not None and not troubles:
        incidents.keep_cause(tx, incident, cause)
        incidents.close(tx, incident, reason=f"journals are written and shipped again; {_unrecorded(total)}")


def sentence(troubles: Sequence[Recording], total: int) -> str:
    """What is wrong and what it has cost so far."""
    whose = "; ".join(dict.fromkeys(one.trouble for one in troubles if one.trouble))
    return f"{whose or 'a journal could not be written for a moment'}; {_unrecorded(total)}"


def _unrecorded(total: int) -> str:
    return f"{total} prediction{'' if total == 1 else 's'} went unrecorded"


def _advice(troubles: Sequence[Recording]) -> str:
    return "mend" if troubles and all(one.problem is None for one in troubles) else "make_room"


def _known(tx: Tx, project: str) -> Known:
    kept = json.loads(meta.get(tx, _key(project)) or "{}")
    return {name: Recording(**fields) for name, fields in kept.items()}


def _key(project: str) -> str:
    return f"unrecorded/{project}"


def _ask(folder: StateFolder, name: str) -> Recording | None:
    """None while it does not answer."""
    try:
        said = ask(folder.socket(name), {"op": "ping"}, timeout=ASK_SECONDS)
    except Unavailable:
        return None
    if "life" not in said:  # an older server, which does not tell
        return None
    stopped = None
    with suppress(Unavailable):  # it is starting, or not there: a server can do without for a while
        path = folder.socket(f"shipper-{said['replica']}")
        stopped = ask(path, {"op": "ping"}, timeout=ASK_SECONDS).get("stopped")
    return Recording(said["replica"], said["life"], said["unrecorded"], said["journal_problem"], stopped)
