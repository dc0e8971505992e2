"""What to do about a step, as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trueline.domain.steps import Step, StepState
from trueline.pipelines.plan import Action, Decision, Facts, decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEP = Step("run-1:a", "run-1", "p", "a", 0, StepState.waiting, "m.py:a", [], 0, None, None, None, None, None, 0, None,
            None, None, None, 0)  # fmt: skip
MADE = {"state": StepState.succeeded, "key": "k"}
SOON, FAR = NOW + timedelta(seconds=2), NOW + timedelta(days=1)


@pytest.mark.parametrize(
    ("step", "known", "decision"),
    [
        ({}, {}, Decision(Action.begin)),
        ({}, {"equal": STEP}, Decision(Action.reuse)),
        ({}, {"adoptable": True, "equal": STEP}, Decision(Action.adopt)),
        ({"not_before": SOON}, {}, Decision(Action.wait, until=SOON)),
        ({"not_before": SOON}, {"equal": STEP}, Decision(Action.reuse)),
        ({"not_before": FAR}, {}, Decision(Action.begin)),
        (MADE, {"stored": True}, Decision(Action.keep)),
        (MADE, {}, Decision(Action.begin, "its output is gone")),
        (MADE | {"key": "old"}, {"stored": True}, Decision(Action.begin, "what it is made from changed")),
        (MADE | {"key": "old"}, {"equal": STEP}, Decision(Action.reuse, "what it is made from changed")),
        ({"state": StepState.running}, {}, Decision(Action.begin)),
        ({"state": StepState.running}, {"adoptable": True}, Decision(Action.adopt)),
        ({"state": StepState.running}, {"equal": STEP}, Decision(Action.reuse, "an equal one was made meanwhile")),
    ],
)
def test_the_next_move_of_a_step(step: dict[str, Any], known: dict[str, Any], decision: Decision) -> None:
    facts = {"key": "k", "stored": False, "adoptable": False, "equal": None, "now": NOW} | known
    assert decide(Facts(step=replace(STEP, **step), **facts)) == decision
