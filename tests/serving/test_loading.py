"""A model that hangs while it is opened costs its own version, and keeps neither the server nor its end waiting."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest
from serving_world import Fake, eventually, route, table

from trueline import routefile
from trueline.domain.routes import Arm, Route, encode
from trueline.packaging import executors
from trueline.serving.aside import aside
from trueline.serving.contained import Contained
from trueline.serving.limits import Limits
from trueline.serving.loading import Loader
from trueline.settings import StateFolder
from trueline.sockets import ask_each

ROW = {"x": 1, "n": 1}


def beside(work):
    done = Future()
    threading.Thread(target=lambda: done.set_result(work()), daemon=True).start()
    return done


class Stuck:
    """Opening a model in this process that does not come back until it may."""

    def __init__(self):
        self.begun, self.may_end, self.load = threading.Event(), threading.Event(), executors.load

    def __call__(self, folder, digest):
        self.begun.set()
        self.may_end.wait(60)
        return self.load(folder, digest)


@pytest.fixture
def stuck(monkeypatch):
    made = Stuck()
    monkeypatch.setattr(executors, "load", made)
    yield made
    made.may_end.set()


@pytest.fixture
def hanging(serve, packaged, stuck):  # noqa: ARG001  for what it does
    """A server with a champion, and the route to a real ONNX model whose opening hangs, given so many seconds."""

    def start(seconds):
        server = serve({1: Fake(1)}, table())
        load = Loader(
            server.server._scoreboard,
            Limits(start_seconds=seconds),
            server.server.plane.metrics,
            Contained(server.config.state.contained),
        )
        server.server.plane.versions._load = load
        model = Route(2, Arm.champion, 1.0, str(packaged[2].folder), packaged[2].digest)
        return server, table(2, routes=(model,)), load

    return start


def test_after_the_deadline_the_table_is_refused_and_the_version_gets_a_process_of_its_own(hanging, stuck):
    server, wanted, load = hanging(1.0)  # in which its manifest has to be read
    refused = server.put(wanted)
    sentence = "version 2 was given up: it did not load within 1 s"
    assert (refused["ok"], refused["error"], refused["epoch"]) == (False, sentence, 1)
    assert server.post("/predict", ROW).json["version"] == 1
    assert server.server._scoreboard.unfinished().version == 2, "the thread that was given up may still crash"
    server.server.plane.versions._load = replace(load, limits=Limits())
    assert server.put(wanted) == {"ok": True, "epoch": 2}
    assert not stuck.may_end.is_set()
    assert server.post("/predict", {"a": 0.5, "b": -0.5}).json["predictions"] == pytest.approx([1.0])
    (apart,) = server.admin("status")["contained"]
    assert (apart["version"], apart["reason"]) == (2, sentence)


def test_while_it_hangs_everything_else_goes_on_and_the_status_says_what_is_being_loaded(hanging, stuck):
    server, wanted, _ = hanging(60.0)
    refused = beside(lambda: server.put(wanted))
    assert stuck.begun.wait(20)
    assert server.post("/predict", ROW).json["version"] == 1
    assert server.admin("status")["loading"] == [{"version": 2, "failed": ""}]
    server.stop()
    assert refused.result(20)["error"] == "version 2 is not loaded: this server is ending"
    assert not stuck.may_end.is_set(), "the server has ended all the same"


def test_what_is_done_aside_gives_its_result_its_error_or_nothing_in_time():
    never = threading.Event()

    async def all_three():
        assert await aside(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await aside(lambda: 1 // 0)
        with pytest.raises(TimeoutError):
            await aside(never.wait, 0.01)

    asyncio.run(all_three())
    never.set()


@pytest.mark.parametrize("problem", [StopIteration(3), SystemExit(3), asyncio.CancelledError()], ids=repr)
def test_what_no_future_can_tell_is_told_all_the_same_to_who_waits_without_a_deadline(problem):
    async def waiting():
        with pytest.raises(RuntimeError, match=f"it ended with {type(problem).__name__}"):
            await asyncio.wait_for(aside(lambda: raised(problem)), 20)

    asyncio.run(waiting())


def raised(problem):
    raise problem


def test_a_failure_of_loading_is_forgotten_with_the_next_table(serve):
    server = serve({1: Fake(1)}, table())
    assert not server.put(table(2, routes=(route(9),)))["ok"]
    assert 9 in server.server.plane.versions._failures
    assert server.put(table(3))["ok"]
    assert server.server.plane.versions._failures == {}


HANGING = """
import sys, threading
from trueline.packaging import executors
executors.load = lambda *_: sys.stderr.write("opening\\n") and sys.stderr.flush() or threading.Event().wait()
from trueline.serving.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("when", ["before it is ready", "while it serves"])
def test_a_process_ends_in_order_while_a_model_hangs(tmp_path, packaged, when):
    state = StateFolder(tmp_path / "state").create()
    model = Route(2, Arm.champion, 1.0, str(packaged[2].folder), packaged[2].digest)
    wanted = table(2, routes=(model,))
    if when == "before it is ready":
        routefile.write(state.routes, wanted)
    command = [sys.executable, "-c", HANGING, "--state", str(state.root), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if when == "while it serves":
            assert json.loads(process.stdout.readline())["url"]
            beside(lambda: list(ask_each([state.socket("serve-r0")], {"op": "route", "table": encode(wanted)})))
        eventually(lambda: process.stderr.readline() == "opening\n")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in said) == (0, False), said
    finally:
        process.kill()
        process.communicate()
