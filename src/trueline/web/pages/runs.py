"""The page of a training: what it was for, what it saw, what it said and what came of it."""

from __future__ import annotations

from typing import Any

from trueline.web.api.calls import ApiResponse, view, views
from trueline.web.api.runs import RunView
from trueline.web.api.steps import LogsView, StepView
from trueline.web.pages.calls import Look
from trueline.web.pages.things import Fact, Table, show_thing


def show(look: Look) -> ApiResponse:
    run = view(look.services.run(look.path["id"]), RunView)
    logs = view(look.services.logs(run.id, step=None, after=None), LogsView)
    found = views(look.services.steps(run.id), StepView)
    steps = Table("Steps", ("step", "state", "took", "needs", "went wrong"), [_row(step) for step in found])
    facts = [
        Fact("purpose", run.purpose),
        Fact("function", run.entry),
        Fact("rows", f"from {run.window_from:%Y-%m-%d} to {run.cut_at:%Y-%m-%d}"),
        Fact("dataset version", run.dataset),
        Fact("parameters", run.params),
        Fact("metrics", run.metrics),
        Fact("version", run.version and f"version {run.version}", run.version and f"/versions/{run.version}"),
        Fact("the same as", run.cached_from, run.cached_from and f"/runs/{run.cached_from}"),
        Fact("key", run.key),
        Fact("code tree", run.tree),
        Fact("asked for by", run.actor),
        Fact("begun", run.created_at),
        Fact("ended", run.finished_at),
    ]
    return show_thing(
        look,
        title="Training",
        name=run.id,
        state=run.state,
        sentence=run.error or run.reason,
        facts=facts,
        tables=[steps] if steps.rows else [],
        ref=run.id,
        why=run.id,
        template="run.html",
        run=run.id,
        logs=logs,
    )


def _row(step: StepView) -> list[Any]:
    took = None if step.started_at is None or step.finished_at is None else step.finished_at - step.started_at
    state = f"as in {step.cached_from}" if step.cached_from else step.state
    return [step.name, state, None if took is None else f"{took.total_seconds():.1f} s", step.needs, step.error]
