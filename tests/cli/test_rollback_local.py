"""`rollback --local` against an admin socket of its own."""

import asyncio
import json
import threading

import pytest

from trueline.domain import routes
from trueline.domain.routes import Arm, Route, RouteTable


class Admin:
    """A model server's admin socket: remembers what it was told."""

    def __init__(self, path):
        self.told = []
        self.table = RouteTable(0, "example")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_unix_server(self._answer, path))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _answer(self, reader, writer):
        message = json.loads(await reader.readline())
        self.told.append(message)
        writer.write(json.dumps({"ok": True, "table": routes.encode(self.table)}).encode() + b"\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def close(self):
        async def end():
            self._server.close()
            await self._server.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def admin(state):
    path = state.socket("serve-r0")
    server = Admin(path)
    yield server
    server.close()
    path.unlink(missing_ok=True)
    path.parent.rmdir()


def route(admin, *arms):
    listed = tuple(Route(n, arm, weight, f"m/{n}", f"d{n}") for n, (arm, weight) in enumerate(arms, start=1))
    admin.table = RouteTable(8, "example", listed, release="release-1", salt="s")


def test_a_canary_goes_back_to_its_champion_at_the_next_epoch_and_holds(trueline, admin):
    route(admin, (Arm.champion, 0.9), (Arm.canary, 0.1))
    said = trueline("rollback", "--local", "--reason", "control is down", "--json")
    assert said.code == 0
    assert said.json == {"version": 1, "epoch": 9, "servers": ["serve-r0"], "reason": "control is down"}
    assert admin.told[0] == {"op": "status", "at_once": True}, "it waits for no shadow scores"
    table = routes.decode(admin.told[-1]["table"])
    assert (table.epoch, table.hold, table.release) == (9, True, None)
    assert [(r.version, r.arm, r.weight) for r in table.routes] == [(1, Arm.champion, 1.0), (2, Arm.shadow, 0.0)]


def test_the_one_warm_version_is_what_a_promoted_release_goes_back_to(trueline, admin):
    route(admin, (Arm.shadow, 0.0), (Arm.champion, 1.0))
    said = trueline("rollback", "--local", "--reason", "r")
    assert "version 1 serves everything, epoch 9" in said.out
    assert admin.told[-1]["op"] == "override"


def test_among_several_somebody_must_choose(trueline, admin):
    route(admin, (Arm.shadow, 0.0), (Arm.shadow, 0.0), (Arm.champion, 1.0))
    said = trueline("rollback", "--local", "--reason", "r")
    assert said.code == 2
    assert "--version: other than the champion, 1, 2 are loaded" in said.err
    assert trueline("rollback", "--local", "--reason", "r", "--version", "2").code == 0
    assert trueline("rollback", "--local", "--reason", "r", "--version", "9").code == 2
    assert [message["op"] for message in admin.told] == ["status", "status", "override", "status"]


def test_without_a_server_or_a_release_it_says_so(trueline, state):
    said = trueline("rollback", "--local", "--reason", "r", "--state", state.root)
    assert said.code == 6
    assert "no model server" in said.err


def test_before_the_first_release_there_is_nothing_to_go_back_to(trueline, admin):
    said = trueline("rollback", "--local", "--reason", "r")
    assert said.code == 1
    assert "nothing has been released yet" in said.err
    assert [message["op"] for message in admin.told] == ["status"]


def test_a_dead_servers_socket_does_not_stop_the_living(trueline, state, admin):
    route(admin, (Arm.champion, 0.9), (Arm.canary, 0.1))
    dead = state.socket("serve-dead")
    dead.touch()
    try:
        said = trueline("rollback", "--local", "--reason", "r", "--json")
        assert said.json["servers"] == ["serve-r0"]
    finally:
        dead.unlink()
