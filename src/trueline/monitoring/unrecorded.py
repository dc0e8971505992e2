"""What the servers of this machine could not record, as an incident: one while it lasts, however many servers it hits.

Each server counts for itself since its start, so what is kept here is, for each life of a server, the highest count that
was heard of it: what is more than that is new, whoever asks, and after whatever death. That a server is silent ends its
trouble but not its count, for it may only have been slow; and a look that is older than what is kept adds nothing. What a
server lost between the last look at it and its death is not known. A full disk is often the database's disk too; then the
incident is opened when there is room again, with the whole count.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

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
LIVES = 8
"""Of each server, those heard last, are remembered: only a control process that slept through all of them may tell of an older one."""


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

    def past(self) -> Recording:
        """What is left of it when it is over: its count."""
        return replace(self, problem=None, shipping=None)


Known = Mapping[str, Recording]
"""By life, those heard last at the end: each that lost something or is in trouble, with its highest count."""


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
        seen = self._seen  # one look, though `troubles` may look again in another thread meanwhile
        with store.read() as tx:
            known = _known(tx, project)
        if self._after(known, seen) != known:
            with store.begin() as tx:
                known = _known(tx, project)
                _take(tx, project, known, self._after(known, seen), seen)

    def _after(self, known: Known, seen: Sequence[Recording]) -> Known:
        """What is known now: lives that lost nothing are not kept, those that are over are in no trouble."""
        heard = {one.replica for one in seen}
        over = {life: one for life, one in known.items() if one.replica in heard or self._is_gone(one)}
        after = {life: one.past() if life in over else one for life, one in known.items()}
        for one in seen:
            before = after.pop(one.life, one)
            after[one.life] = replace(one, unrecorded=max(one.unrecorded, before.unrecorded))
        return _newest({life: one for life, one in after.items() if one.unrecorded or one.trouble})

    def _is_gone(self, one: Recording) -> bool:
        if not self._folder.journal(one.replica).exists():  # another machine's, which looks after it
            return False
        since = self._heard.setdefault(one.replica, self._looked)
        return self._looked - since > GONE_SECONDS


def _newest(known: Known) -> Known:
    """The last lives of each server."""
    older = Counter(one.replica for one in known.values())
    kept = {}
    for life, one in known.items():
        older[one.replica] -= 1
        if older[one.replica] < LIVES:
            kept[life] = one
    return kept


def lost(known: Known, seen: Sequence[Recording]) -> int:
    """How many predictions went unrecorded beyond those that were counted before.

    >>> before = {"a": Recording("r0", "a", 3)}
    >>> lost(before, [Recording("r0", "a", 5)]), lost(before, [Recording("r0", "a", 2)]), lost(before, [Recording("r0", "b", 2)])
    (2, 0, 2)
    """
    return sum(max(0, one.unrecorded - (known[one.life].unrecorded if one.life in known else 0)) for one in seen)


def _take(tx: Tx, project: str, known: Known, after: Known, seen: Sequence[Recording]) -> None:
    champion = endpoints.get(tx, project).champion
    if champion is None:  # nothing is answered, so nothing is missing
        return
    meta.put(tx, _key(project), json.dumps({life: vars(one) for life, one in after.items()}))
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
    return {fields["life"]: Recording(**fields) for fields in kept.values()}


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
