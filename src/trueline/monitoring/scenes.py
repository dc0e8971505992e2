"""Who was on stage in a block: the champion when it began, the refits that stood by, and their paired losses."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from trueline.domain.blocks import Block
from trueline.domain.releases import ReleaseState
from trueline.domain.runs import Purpose
from trueline.domain.versions import VersionState
from trueline.monitoring.earlier import Champion, chosen
from trueline.monitoring.rehearsal import PairedLoss, Refit, RehearsalBlock
from trueline.stats.staleness import AgedLoss
from trueline.store import tables
from trueline.store.engine import Tx

DAY = timedelta(days=1)


def began(block: Block) -> datetime:
    return datetime.fromisoformat(block.day).replace(tzinfo=UTC)


def of_block(tx: Tx, project: str, block: Block) -> RehearsalBlock | None:
    """The scene of a block; None where nothing served when it began."""
    champion = champion_at(tx, project, began(block))
    if champion is None:
        return None
    pairs = tuple(
        PairedLoss(pair["a"], pair["b"], pair["n"], pair["loss_a"], pair["loss_b"])
        for pair in (block.evidence or {}).get("pairs", ())
        if pair["n"]
    )
    return RehearsalBlock(block.day, began(block), champion, refits(tx, project), pairs)


def refits(tx: Tx, project: str) -> tuple[Refit, ...]:
    """Every refit of the rehearsal that no gate rejected."""
    box = tables.versions
    found = tx.execute(
        select(box.c.number, box.c.trained_to, box.c.created_at).where(
            box.c.project == project,
            box.c.purpose.in_((Purpose.rehearsal, Purpose.alert)),
            box.c.state != VersionState.rejected,
        )
    )
    return tuple(Refit(row.number, row.trained_to, row.created_at) for row in found)


def champion_at(tx: Tx, project: str, moment: datetime) -> int | None:
    """The version that had the traffic at a moment: what the last promotion, rollback or hold before it said."""
    box = tables.events
    kinds = ("release.promote", "release.roll_back", "route.hold")
    found = tx.execute(
        select(box.c.kind, box.c.detail)
        .where(box.c.project == project, box.c.kind.in_(kinds), box.c.at <= moment)
        .order_by(box.c.id.desc())
    )
    for row in found:
        if row.kind == "release.roll_back":
            if row.detail.get("crowned"):
                return int(row.detail["from"])
        elif row.detail.get("version"):
            return int(row.detail["version"])
    return None


def contenders(tx: Tx, project: str, moment: datetime) -> tuple[int, ...]:
    """The earlier champions that compete on the day that begins then: promoted before it, and not taken back since."""
    box, versions = tables.releases, tables.versions
    found = tx.execute(
        select(versions.c.number, versions.c.trained_to)
        .join(box, (box.c.project == versions.c.project) & (box.c.version == versions.c.number))
        .where(
            box.c.project == project,
            box.c.state.in_((ReleaseState.promoted, ReleaseState.done)),
            box.c.created_at < moment,
            versions.c.state == VersionState.approved,
        )
        .distinct()
    )
    return chosen([Champion(row.number, row.trained_to) for row in found])


def ages(tx: Tx, project: str, blocks: Iterable[Block]) -> list[AgedLoss]:
    """Every model of every block beside the block's freshest refit, itself included: the curve is 1 at its own age."""
    box = tables.versions
    found = tx.execute(select(box.c.number, box.c.trained_to).where(box.c.project == project))
    trained_to = {row.number: row.trained_to for row in found}
    scenes = (of_block(tx, project, block) for block in blocks)
    return [seen for scene in scenes if scene is not None for seen in _ages(scene, trained_to)]


def _ages(scene: RehearsalBlock, trained_to: dict[int, datetime]) -> list[AgedLoss]:
    ready = [refit for refit in scene.refits if refit.ready_at <= scene.began]
    if not ready:
        return []
    freshest = max(ready, key=lambda refit: (refit.trained_to, refit.version)).version
    found: list[AgedLoss] = []
    own: float | None = None
    for pair in scene.pairs:
        if freshest not in (pair.left, pair.right):
            continue
        turned = pair.left == freshest
        older = pair.right if turned else pair.left
        loss, own = (pair.right_loss, pair.left_loss) if turned else (pair.left_loss, pair.right_loss)
        found.append(AgedLoss(scene.day, (scene.began - trained_to[older]) / DAY, loss, own))
    if own is not None:
        found.append(AgedLoss(scene.day, (scene.began - trained_to[freshest]) / DAY, own, own))
    return [seen for seen in found if seen.age_days >= 0]
