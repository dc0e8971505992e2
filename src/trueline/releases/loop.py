"""The releases controller: gathers a live release's evidence, asks for the next move, and makes it.

Evidence lives in the release's row (`kept`), so any control process can go on where another stopped. Designs and
scales that the tests stand on are frozen in it when the release begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from trueline.control import blocks, endpoints, releases, runs
from trueline.control.context import Context
from trueline.control.rounds import Round
from trueline.domain.blocks import Block
from trueline.domain.releases import LIVE, Release, ReleaseEvent, ReleaseState
from trueline.errors import Conflict
from trueline.releases import faults, tail
from trueline.releases.decide import (
    Act,
    Guard,
    GuardEvidence,
    ReleaseDecision,
    ReleaseEvidence,
    ReleasePolicy,
    Split,
    Stage,
    decide_release,
)
from trueline.stats.arms import Arms
from trueline.stats.bad_events import Thresholds, count
from trueline.stats.blocks import block_value
from trueline.stats.bounded_mean import Bets
from trueline.store import rows, tables
from trueline.store.engine import Tx

LOOK = timedelta(hours=1)
"""How often a canary is looked at in event time while a replay drives it; in real time every round looks."""

CLIP = 6.0
"""A regression's loss is clipped at this many times the usual loss, frozen when the release begins."""

WATCH = timedelta(days=7)
"""How long a promoted release is watched, beyond the time its labels take."""

BOUND = 0.5
GUARD = "errors"


@dataclass(frozen=True)
class Kept:
    """What a release remembers between rounds."""

    since_day: str  # blocks from this day on are its own
    last_day: str  # the newest block taken in
    usual: float | None = None  # the champion's loss when the release began: the scale of every loss test
    scale: float | None = None  # losses are divided by it and clipped to 1
    guard: GuardEvidence = field(default_factory=GuardEvidence)
    splits: tuple[Split, ...] = ()
    labelled_splits: tuple[Split, ...] = ()
    arms: Arms = field(default_factory=Arms)
    harm_blocks: Bets = field(default_factory=Bets)
    within_blocks: Bets = field(default_factory=Bets)
    units_this_step: int = 0
    held: bool = False
    answered: int = 0


def kept_of(release: Release) -> Kept | None:
    found = release.evidence.get("kept")
    return None if found is None else msgspec.convert(found, Kept)


def policy_of(context: Context) -> ReleasePolicy:
    declared = context.project.release
    shadow = next((step.at_least for step in declared.strategy if step.kind == "shadow"), None)
    guards = declared.guards
    return ReleasePolicy(
        shadow=shadow,
        canary=tuple(step.weight for step in declared.strategy if step.kind == "canary"),
        guards=(Guard(GUARD, Thresholds.of(guards.errors), guards.floor),),
        loss=guards.loss,
        alpha=guards.alpha,
        beta=guards.beta,
        watch=WATCH + context.project.monitor.labels.expect_after,
    )


def step(context: Context) -> Round:
    """One round: begin what waits, or look at what is live."""
    project = context.project.name
    box = tables.releases
    with context.store.read() as tx:
        live = endpoints.live_release(tx, project)
        waiting = rows.first(tx, Release, box.c.project == project, box.c.state == ReleaseState.pending)
        if waiting is not None and faults.holds(tx, waiting):
            waiting = None
        before = tail.cursors(tx, context.project.name)
    policy = policy_of(context)
    if waiting is not None and (live is None or live.state is ReleaseState.promoted):
        _begin(context, policy, waiting, live)
        return Round(busy=True)
    if live is None:
        return Round(busy=False)
    journal = tail.read_tail(context.folder, before) if live.state is ReleaseState.canary else None
    with context.store.read() as tx:
        news = _new_blocks(tx, live)
    now = context.clock.now()
    kept = kept_of(live)
    nothing_new = kept is not None and not news and (journal is None or not journal.records)
    with context.store.read() as tx:
        decision = faults.heed(tx, live, _decide(live, policy, now))
    if nothing_new and _stays(decision, kept):
        return Round(busy=False, next_due=_next_look(live, policy, now))
    return _look(context, policy, live, journal)


def _stays(decision: ReleaseDecision, kept: Kept | None) -> bool:
    """Whether nothing is to be done: waiting, or held and said so already."""
    return decision.verdict is Act.wait or (decision.verdict is Act.hold and kept is not None and kept.held)


def _look(context: Context, policy: ReleasePolicy, seen: Release, journal: tail.Tail | None) -> Round:
    """Take new evidence in and act on all of it, in one transaction."""
    with context.store.begin() as tx:
        release = rows.get(tx, Release, seen.id)
        if release.state is not seen.state or release.step != seen.step:
            raise Conflict(f"{release.id} was moved by somebody else; looking again")
        kept = kept_of(release) or _first_kept(tx, context, tx.now)
        if journal is not None:
            kept = _take_tail(tx, context, release, kept, journal)
        news = blocks.since(tx, release.project, kept.last_day)
        if kept.usual is None and news:
            kept = _scaled(tx, context, kept, news[-1].day)
        else:
            for block in news:
                kept = _take_block(context, release, kept, block)
        release = replace(release, evidence={**release.evidence, "kept": msgspec.to_builtins(kept)})
        releases.keep_evidence(tx, release, release.evidence, kept.answered)
        decision = faults.heed(tx, release, _decide(release, policy, tx.now))
        busy = _act(tx, context, replace(release, requests_answered=kept.answered), decision)
        busy |= journal is not None and journal.more
        following = _next_look(release, policy, tx.now)
    return Round(busy=busy, next_due=following)


def needs(context: Context, release: Release, now: datetime) -> str | None:
    """What the next move of a live release waits for, as the decision says it; None when none is under way."""
    if release.state not in LIVE:
        return None
    return _decide(release, policy_of(context), now).reason


def _decide(release: Release, policy: ReleasePolicy, now: datetime) -> ReleaseDecision:
    kept = kept_of(release) or Kept("", "")
    stage = Stage(release.state, release.step, release.stage_since, release.vouched)
    evidence = ReleaseEvidence(
        version=release.version,
        previous=release.previous,
        guards={GUARD: kept.guard},
        splits=kept.splits,
        labelled_splits=kept.labelled_splits,
        arms=kept.arms,
        harm_blocks=kept.harm_blocks,
        within_blocks=kept.within_blocks,
        units_this_step=kept.units_this_step,
    )
    return decide_release(stage, evidence, policy, now)


def _begin(context: Context, policy: ReleasePolicy, waiting: Release, live: Release | None) -> None:
    """Freeze the designs and take the first stage; journals are read from here on."""
    with context.store.read() as tx:
        before = tail.cursors(tx, context.project.name)
    skipped = tail.skip(context.folder, before)
    scene = context.scene
    with context.store.begin() as tx:
        release = rows.get(tx, Release, waiting.id)
        champion = endpoints.get(tx, context.project.name).champion
        learnt = faults.learnt(tx, release)
        if learnt is not None:
            releases.abort(tx, release, actor="control", reason=learnt)
            return
        if champion == release.version:
            releases.abort(tx, release, actor="control", reason=f"version {champion} has become the champion meanwhile")
            return
        if live is not None:
            over = f"{waiting.id} of version {waiting.version} begins: the watch over this one ends"
            releases.finish(tx, scene, rows.get(tx, Release, live.id), actor="control", reason=over)
        tail.take(tx, context.project.name, skipped)
        release = replace(release, previous=champion)
        kept = _first_kept(tx, context, tx.now)
        evidence = {**release.evidence, "kept": msgspec.to_builtins(kept)}
        releases.keep_evidence(tx, release, evidence, 0)
        release = replace(release, evidence=evidence)
        decision = _decide(release, policy, tx.now)
        if decision.verdict is Act.promote:
            releases.promote(tx, scene, release, actor="control", reason=decision.reason)
            return
        shadow = decision.step is None
        releases.begin(
            tx,
            scene,
            release,
            event=ReleaseEvent.start_shadow if shadow else ReleaseEvent.start_canary,
            step=-1 if decision.step is None else decision.step,
            evidence={**evidence, "weight": decision.weight or 0.0},
            actor="control",
            reason=decision.reason,
        )


def _act(tx: Tx, context: Context, release: Release, decision: ReleaseDecision) -> bool:
    scene, why = context.scene, decision.reason
    match decision.verdict:
        case Act.wait:
            return False
        case Act.promote:
            releases.promote(tx, scene, release, actor="control", reason=why)
        case Act.roll_back:
            if release.previous is None:
                return False
            releases.roll_back(tx, scene, release, actor="control", reason=why)
        case Act.finish:
            releases.finish(tx, scene, release, actor="control", reason=why)
        case Act.advance:
            first = release.state is ReleaseState.shadow
            event = ReleaseEvent.start_canary if first else ReleaseEvent.widen
            step, weight = decision.step or 0, decision.weight or 0.0
            kept = replace(kept_of(release) or Kept("", ""), units_this_step=0)
            evidence = {**release.evidence, "kept": msgspec.to_builtins(kept)}
            releases.keep_evidence(tx, release, evidence, release.requests_answered)
            releases.advance(tx, scene, release, event=event, step=step, weight=weight, actor="control", reason=why)
        case Act.hold:
            return _hold(tx, context, release, why)
    return True


def _hold(tx: Tx, context: Context, release: Release, why: str) -> bool:
    """Say once that the release cannot be judged; a person decides."""
    kept = kept_of(release)
    if kept is None or kept.held:
        return False
    evidence = {**release.evidence, "kept": msgspec.to_builtins(replace(kept, held=True))}
    releases.keep_evidence(tx, release, evidence, release.requests_answered)
    detail = {"version": release.version}
    tx.record("release.hold", release.id, project=context.project.name, actor="control", reason=why, detail=detail)
    return True


def _scaled(tx: Tx, context: Context, kept: Kept, through: str) -> Kept:
    """A release that began before anything was labelled: its scale is frozen now, and evidence begins after it."""
    fresh = _first_kept(tx, context, tx.now)
    return replace(kept, usual=fresh.usual, scale=fresh.scale, last_day=through)


def _first_kept(tx: Tx, context: Context, now: datetime) -> Kept:
    usual = blocks.usual_loss(tx, context.project.name)
    champion = endpoints.get(tx, context.project.name).champion
    task = runs.version(tx, context.project.name, champion).task if champion is not None else None
    scale = None if usual is None else (1.0 if task == "classification" else CLIP * usual)
    day = now.date().isoformat()
    return Kept(
        since_day=day, last_day=(now - timedelta(days=1)).date().isoformat(), usual=usual or None, scale=scale or None
    )


def _new_blocks(tx: Tx, release: Release) -> list[Block]:
    kept = kept_of(release)
    return [] if kept is None else blocks.since(tx, release.project, kept.last_day)


def _take_tail(tx: Tx, context: Context, release: Release, kept: Kept, journal: tail.Tail) -> Kept:
    tail.take(tx, context.project.name, journal)
    sticky = context.project.release.stick_to is not None
    weight = float(release.evidence.get("weight", 0.0))
    arms = tail.Arms(release.id, release.version, release.previous, weight)
    seen = tail.observations(tx, journal, arms, sticky=sticky)
    tried, failed = (0, 0) if sticky else tail.trials(journal, arms)  # a user's request in shadow is the user's again
    if not seen and not tried:
        return kept
    thresholds = Thresholds.of(context.project.release.guards.errors)
    bad = [one for one in seen if one.bad]
    mine = [one for one in seen if one.canary]
    guard = GuardEvidence(
        events=kept.guard.events + count(thresholds, [one.canary for one in bad], [one.share for one in bad]),
        alone=kept.guard.alone + len(mine) + tried,
        alone_bad=kept.guard.alone_bad + sum(one.bad for one in mine) + failed,
    )
    splits = kept.splits
    for share in sorted({one.share for one in seen}):
        canary = sum(one.canary for one in seen if one.share == share)
        rest = sum(not one.canary for one in seen if one.share == share)
        splits = add_split(splits, Split(share, canary, rest))
    now_step = sum(one.canary for one in seen if math.isclose(one.share, weight))
    return replace(
        kept,
        guard=guard,
        splits=splits,
        units_this_step=kept.units_this_step + now_step,
        answered=kept.answered + len(mine),
    )


def add_split(splits: tuple[Split, ...], more: Split) -> tuple[Split, ...]:
    """Counts by share, with some more added."""
    found = {split.share: split for split in splits}
    known = found.get(more.share, Split(more.share, 0, 0))
    found[more.share] = Split(more.share, known.canary + more.canary, known.champion + more.champion)
    return tuple(found[share] for share in sorted(found))


def _take_block(context: Context, release: Release, kept: Kept, block: Block) -> Kept:
    """A day's labelled evidence: the randomised arms, and the day's mean of pairs where shadow pairs may count."""
    evidence = block.evidence or {}
    kept = replace(kept, last_day=block.day)
    arms = evidence.get("arms", {}).get(release.id)
    if arms:
        kept = replace(kept, arms=kept.arms + msgspec.convert(arms["evidence"], Arms))
        for split in arms["splits"]:
            kept = replace(kept, labelled_splits=add_split(kept.labelled_splits, msgspec.convert(split, Split)))
    affected = context.project.monitor.labels.affected_by_prediction
    pair = None if affected or kept.usual is None else _pair(evidence, release.version, release.previous)
    if pair is not None and kept.usual is not None and block.day > kept.since_day:
        scale = {"reference": kept.usual, "margin": context.project.release.guards.loss, "bound": BOUND}
        value = block_value(pair, **scale)
        kept = replace(
            kept, harm_blocks=kept.harm_blocks.update(value), within_blocks=kept.within_blocks.update(-value)
        )
    return kept


def _pair(evidence: dict[str, Any], new: int, old: int | None) -> float | None:
    """Mean loss of the new version less the old one's, on the rows of the day that both scored."""
    for pair in evidence.get("pairs", ()):
        if pair["n"] and {pair["a"], pair["b"]} == {new, old}:
            difference = float(pair["loss_a"]) - float(pair["loss_b"])
            return difference if pair["a"] == new else -difference
    return None


def _next_look(release: Release, policy: ReleasePolicy, now: datetime) -> datetime | None:
    if release.state is ReleaseState.promoted:
        return release.stage_since + policy.watch
    if release.state is ReleaseState.shadow:
        return max(release.stage_since + (policy.shadow or timedelta(0)), now + LOOK)
    return now + LOOK
