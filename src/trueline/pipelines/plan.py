"""What to do about one step whose inputs are all there: the only place where that is decided.

Pure: facts in, a decision with its reason out. The loop around it (`walk`) gathers the facts and commits the moves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from trueline.domain.steps import LONGEST_BACKOFF, Step, StepState
from trueline.pipelines.graph import Call


class Action(StrEnum):
    keep = "keep"  # it has been made, in this run
    adopt = "adopt"  # it has been made in this run, by an attempt that died before that was recorded
    reuse = "reuse"  # an equal one has been made
    begin = "begin"
    wait = "wait"  # until `Decision.until`


@dataclass(frozen=True)
class Facts:
    step: Step
    key: str
    stored: bool  # the output its row names is there
    adoptable: bool  # an attempt with this key left a result, and its output is there
    equal: Step | None  # one with this key that was made before, its output there; none where caching is off
    now: datetime


@dataclass(frozen=True)
class Decision:
    action: Action
    reopen: str | None = None  # why what the row says does not hold any more
    until: datetime | None = None


def decide(facts: Facts) -> Decision:
    """The next move of a step."""
    step, reopen = facts.step, None
    if step.state is StepState.succeeded:
        if step.key == facts.key and facts.stored:
            return Decision(Action.keep)
        reopen = "its output is gone" if step.key == facts.key else "what it is made from changed"
    if facts.adoptable:
        return Decision(Action.adopt, reopen)
    if facts.equal is not None:
        return Decision(Action.reuse, "an equal one was made meanwhile" if step.state is StepState.running else reopen)
    if step.state is StepState.waiting and step.not_before is not None and paused(step.not_before, facts.now):
        return Decision(Action.wait, until=step.not_before)
    return Decision(Action.begin, reopen)


def paused(until: datetime, now: datetime) -> bool:
    """Whether it is too early; a moment further off than any pause lasts was written by a clock that ran ahead."""
    return now < until <= now + LONGEST_BACKOFF


def ready(calls: Iterable[Call], done: Collection[str], busy: Collection[str]) -> list[Call]:
    """The steps that can be decided on now: everything they take from is done, and they are not."""
    return [
        call
        for call in calls
        if call.name not in done and call.name not in busy and all(name in done for name in call.needs)
    ]
