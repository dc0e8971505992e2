"""Blocks: making them due, recording their evidence, and judging each exactly once."""

from __future__ import annotations

from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import delete, func, insert, select

from trueline.domain.blocks import BLOCKS, Block, BlockEvent, BlockState
from trueline.store import moves, rows, tables, writes
from trueline.store.engine import Tx


def newest_day(tx: Tx, project: str) -> str | None:
    """The last day that has a block."""
    box = tables.blocks
    found = tx.execute(select(func.max(box.c.day)).where(box.c.project == project)).scalar()
    return None if found is None else str(found)


def make_due(tx: Tx, project: str, day: str, due_at: datetime) -> None:
    values = {"id": f"{project}/{day}", "project": project, "day": day, "due_at": due_at}
    tx.execute(insert(tables.blocks), {**values, "state": BLOCKS.initial})


def evaluated(tx: Tx, block: Block, fence: int, evidence: dict[str, Any], *, actor: str, reason: str) -> None:
    moves.move(
        tx,
        tables.blocks,
        BLOCKS,
        block.id,
        BlockEvent.evaluate,
        actor=actor,
        reason=reason,
        fence=fence,
        evidence=evidence,
    )


def keep_profile(tx: Tx, project: str, day: str, profile: dict[str, Any], *, keep: int) -> None:
    """Remember what a day looked like, and forget the days before the last `keep`."""
    box = tables.profiles
    tx.execute(delete(box).where(box.c.project == project, box.c.day == day))
    tx.execute(insert(box), {"project": project, "day": day, "profile": profile})
    days = select(box.c.day).where(box.c.project == project).order_by(box.c.day.desc()).offset(keep).limit(1)
    oldest = tx.execute(days).scalar()
    if oldest is not None:
        tx.execute(delete(box).where(box.c.project == project, box.c.day <= oldest))


def profile_days(tx: Tx, project: str, before: str) -> list[str]:
    """The days before that one that are remembered, oldest first."""
    box = tables.profiles
    found = tx.execute(select(box.c.day).where(box.c.project == project, box.c.day < before).order_by(box.c.day))
    return [str(row.day) for row in found]


def profile(tx: Tx, project: str, day: str) -> dict[str, Any]:
    """What a day looked like; empty when it is not remembered."""
    box = tables.profiles
    found = tx.execute(select(box.c.profile).where(box.c.project == project, box.c.day == day)).scalar()
    return dict(found) if found else {}


def next_to_judge(tx: Tx, project: str) -> Block | None:
    """The oldest evaluated block, provided that no older one is still being evaluated."""
    box = tables.blocks
    oldest = rows.first(tx, Block, box.c.project == project, box.c.state != BlockState.judged)
    return oldest if oldest is not None and oldest.state is BlockState.evaluated else None


def judge(tx: Tx, block: Block, *, reason: str) -> None:
    moves.move(tx, tables.blocks, BLOCKS, block.id, BlockEvent.judge, actor="monitor", reason=reason)


def since(tx: Tx, project: str, after_day: str) -> list[Block]:
    """Blocks of days after that one, oldest first, up to the first that has no evidence yet: none is skipped."""
    box = tables.blocks
    found = rows.find(tx, Block, box.c.project == project, box.c.day > after_day)
    return list(takewhile(lambda block: block.state in (BlockState.evaluated, BlockState.judged), found))


def monitor_state(tx: Tx, project: str) -> dict[str, Any]:
    """What the monitor and the rehearsal remember between blocks; empty at first."""
    box = tables.monitors
    found = tx.execute(select(box.c.state).where(box.c.project == project)).scalar()
    return dict(found) if found else {}


def keep_monitor_state(tx: Tx, project: str, state: dict[str, Any]) -> None:
    writes.put(tx, tables.monitors, {"project": project, "state": state, "updated_at": tx.now})


def usual_loss(tx: Tx, project: str, *, days: int = 28) -> float | None:
    """Mean loss of what was served over the last labelled blocks; None before there are any."""
    box = tables.blocks
    states = (BlockState.evaluated, BlockState.judged)
    found = rows.find(tx, Block, box.c.project == project, box.c.state.in_(states), newest=True, limit=days)
    served = [block.evidence["served"] for block in found if block.evidence and block.evidence["served"]["n"]]
    total = sum(one["n"] for one in served)
    return sum(one["n"] * one["loss"] for one in served) / total if total else None
