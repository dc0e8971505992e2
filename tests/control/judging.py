"""A gate's whole course in one line."""

from datetime import timedelta

from trueline.control import gates
from trueline.domain.gates import GATES, Gate, GateEvent, GateState
from trueline.store import moves, rows, tables


def judged(store, version, verdict, *, vouched=False, approve=gates.NOBODY):
    """Ask for a gate and let it decide so."""
    with store.begin() as tx:
        gate = gates.request(
            tx,
            "p",
            version,
            vouched_by={"process": "freshness", "wealth": 25.0} if vouched else None,
            actor="ada",
            reason="trained",
        )
        _, fence = moves.claim(
            tx,
            tables.gates,
            GATES,
            GateEvent.claim,
            project="p",
            waiting=GateState.pending,
            busy=GateState.evaluating,
            owner="w",
            lease=timedelta(minutes=1),
        )
        gates.decide(tx, gate, fence, verdict=verdict, reason="because", evidence={}, actor="w", approve=approve)
        return rows.get(tx, Gate, gate.id)
