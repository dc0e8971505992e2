"""Steps, logs and resuming over the API."""

import pytest


def test_a_run_s_steps_and_logs_are_read(ask, services):
    ask("POST", "/api/v1/runs", {})
    assert ask("GET", "/api/v1/runs/run-1/steps") == (200, {"items": []})
    status, first = ask("GET", "/api/v1/runs/run-1/logs")
    assert (status, first["items"], first["ended"]) == (200, [{"step": None, "text": "fitting run-1\n"}], False)
    services.work_until_idle()
    rest = ask("GET", "/api/v1/runs/run-1/logs", after=first["next"])[1]
    assert (rest["items"], rest["ended"]) == ([], True)
    assert ask("GET", "/api/v1/runs/run-1/logs", step="gone")[0] == 404
    assert ask("GET", "/api/v1/why-cached/run-1")[1]["sentence"] == "trained: no run came before it"


def test_a_failed_run_goes_on_with_a_reason(ask, services):
    ask("POST", "/api/v1/runs", {"fit": "m.py:raises"})
    services.work_until_idle()
    assert ask("POST", "/api/v1/runs/run-1/resume", {"reason": " "})[0] == 400
    status, run = ask("POST", "/api/v1/runs/run-1/resume", {"reason": "mended"})
    assert (status, run["state"], run["error"]) == (200, "queued", None)
    assert ask("POST", "/api/v1/runs/run-1/resume", {"reason": "again"})[0] == 409


@pytest.mark.parametrize("path", ["steps", "logs"])
def test_runs_that_are_not_there_have_none(path, ask):
    assert ask("GET", f"/api/v1/runs/run-9/{path}")[0] == 404
