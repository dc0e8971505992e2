"""What schedules found out about route tables: the file's writers, and holds of two people."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from fault_scenes import scenes, settle
from fault_world import Process

from trueline import routefile
from trueline.control import endpoints
from trueline.domain.routes import Arm, Route, RouteTable
from trueline.errors import Unavailable
from trueline.releases import delivery

WRITER = """
import json, sys
from pathlib import Path
from trueline import routefile
from trueline.domain.routes import RouteTable
path, first = Path(sys.argv[1]), int(sys.argv[2])
print(flush=True)
sys.stdin.readline()
seen = 0
for epoch in range(first, 2000, 4):
    routefile.write(path, RouteTable(epoch, "p"))
    standing = routefile.read(path).epoch
    assert standing >= max(epoch, seen), (standing, epoch, seen)
    seen = standing
"""


def test_of_several_writers_the_latest_table_stays_and_none_is_torn(tmp_path):
    path = tmp_path / "routes.json"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [
        subprocess.Popen([*command, str(first)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for first in range(1, 5)
    ]
    for writer in writers:
        writer.stdout.readline()
    ended = []
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    ended = [(writer.communicate(timeout=60)[1].decode(), writer.returncode) for writer in writers]
    assert [code for _, code in ended] == [0] * 4, ended
    assert json.loads(path.read_text())["epoch"] == 1999


def test_a_file_that_cannot_be_written_does_not_keep_a_table_from_the_servers(world, monkeypatch):
    def full(*_):
        raise Unavailable("the disk is full")

    world.restore(scenes(world)["it is watched"])
    process = Process(world)
    with monkeypatch.context() as patch:
        patch.setattr(routefile, "write", full)
        patch.setattr(world, "keep", lambda _: None)
        with process.context.store.begin() as tx:
            table = endpoints.get(tx, "p").table
        with pytest.raises(Unavailable, match="the disk is full"):
            delivery._push(world.folder, replace(table, epoch=9), frozenset())
        assert [server.table.epoch for server in world.servers.values()] == [9, 9]


def held(version: int) -> RouteTable:
    other = Route(3 - version, Arm.shadow, 0.0, "/m", "d")
    return RouteTable(4, "p", (Route(version, Arm.champion, 1.0, "/m", "d"), other), hold=True)


def test_of_two_people_who_hold_two_servers_at_once_one_wins_everywhere(world):
    world.restore(scenes(world)["it is watched"])
    for version, server in enumerate(world.servers.values(), start=1):
        server.put(held(version), world.keep)
    settle(world, Process(world))
    tables = [server.table for server in world.servers.values()]
    assert tables[0] == tables[1]
    assert tables[0].hold


def test_a_hold_that_control_passed_on_is_ended_by_the_next_release_and_does_not_come_back(world):
    world.restore(scenes(world)["it is watched"])
    for version, server in enumerate(world.servers.values(), start=1):
        server.put(held(version), world.keep)
    process = Process(world)
    settle(world, process)
    process.services.roll_back(version=None, reason="asked", actor="ada")
    settle(world, process)
    assert not any(server.table.hold for server in world.servers.values())
    with process.context.store.read() as tx:
        endpoint = endpoints.get(tx, "p")
    assert not endpoint.table.hold
    assert {server.table.epoch for server in world.servers.values()} == {endpoint.table.epoch}


def test_a_hold_on_one_server_is_not_acknowledged_before_the_others_have_it(world):
    world.restore(scenes(world)["it is watched"])
    first, second = world.servers.values()
    first.put(held(1), world.keep)
    process = Process(world)
    process.do("reconcile")
    with process.context.store.read() as tx:
        assert endpoints.get(tx, "p").acknowledged < 4
    settle(world, process)
    assert second.table == first.table
    with process.context.store.read() as tx:
        assert endpoints.get(tx, "p").acknowledged == 4
