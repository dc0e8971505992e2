"""Commands about a run's steps: what it printed, why it ran, having it go on, and how it is drawn."""

from datetime import UTC, datetime, timedelta

import pytest

from trueline.cli.progress import row
from trueline.web.api.steps import StepView

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.usefixtures("unserved")
def test_logs_are_printed_to_the_end(trueline):
    trueline("run")
    assert trueline("logs", "run-1").out == "fitting run-1\n"
    assert trueline("logs", "run-1", "--follow", "--json").json == {"step": None, "line": "fitting run-1"}
    missing = trueline("logs", "run-1", "--step", "prepare")
    assert missing.code == 1
    assert "the run has no step prepare; it has none" in missing.err


@pytest.mark.usefixtures("unserved")
def test_why_cached_is_told(trueline):
    trueline("run")
    assert trueline("why-cached", "run-1").out == "run-1 trained: no run came before it\n"
    assert trueline("why-cached", "run-1", "--json").json["cached"] is False
    assert trueline("why-cached", "run-9").code == 1


@pytest.mark.parametrize("command", [("resume", "run-1"), ("run", "--resume", "run-1")])
def test_a_failed_run_goes_on(command, trueline, unserved):
    assert trueline("run", "--fit", "model.py:raises").code == 1
    said = trueline(*command, "--reason", "mended")
    assert said.code == 1, "it raises again"
    assert "run.resume run-1: mended" in said.err
    assert [event.kind for event in unserved.shelf_events].count("run.fail") == 2


@pytest.mark.usefixtures("unserved")
def test_a_run_that_did_not_fail_cannot_go_on(trueline):
    trueline("run")
    said = trueline("resume", "run-1")
    assert said.code == 1
    assert "run-1 is succeeded: it cannot resume" in said.err
    assert trueline("run", "--resume", "run-1", "--fit", "m.py:f").code == 2


@pytest.mark.parametrize(
    ("facts", "cells"),
    [
        ({"state": "waiting"}, ("·", "prepare", "", "")),
        ({"state": "running", "started_at": NOW - timedelta(seconds=2)}, ("▸", "prepare", "2.0 s", "")),
        (
            {"state": "succeeded", "started_at": NOW, "finished_at": NOW + timedelta(seconds=1.25)},
            ("✓", "prepare", "1.2 s", ""),
        ),
        ({"state": "succeeded", "cached_from": "run-1:prepare"}, ("✓", "prepare", "", "cached")),
        ({"state": "failed", "error": "it raised"}, ("✗", "prepare", "", "it raised")),
    ],
)
def test_a_step_is_drawn_as_a_row(facts, cells):
    step = StepView(
        id="run-2:prepare", run="run-2", name="prepare", number=0, entry="m.py:prepare", needs=[], retries=0, **facts
    )
    assert row(step, NOW) == cells
