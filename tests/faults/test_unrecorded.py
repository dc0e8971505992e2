"""Predictions that go unrecorded are an incident: opened once, kept current, closed once, whoever dies meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from disks import disk, fill, mountable
from serving_world import Fake, Running, eventually, table
from shipping_world import mixed
from sqlalchemy import insert

from real import need
from trueline.cli.status import _facts
from trueline.clock import SystemClock
from trueline.control import events, status
from trueline.control.incidents import open_one
from trueline.domain.incidents import IncidentKind
from trueline.domain.routes import encode
from trueline.journal import segments
from trueline.journal.segments import Writer
from trueline.monitoring import unrecorded
from trueline.monitoring.unrecorded import Watch
from trueline.serving.server import Config
from trueline.settings import StateFolder
from trueline.sockets import ask
from trueline.store import tables
from trueline.store.engine import open_store
from trueline.web.api.calls import view
from trueline.web.api.status import StatusView

ROW = {"instances": [{"x": 1.0, "n": 1}]}
PROJECT = "p"


class Shop:
    """A model server, and a control plane that looks at it round after round."""

    def __init__(self, root, database=None):
        self.state = StateFolder(root / "state").create()
        self.store = open_store(database or root / "control.db", SystemClock())
        with self.store.begin() as tx:
            routes = {"project": PROJECT, "epoch": 1, "routes": encode(table()), "acknowledged": 1, "champion": 1}
            tx.execute(insert(tables.endpoints), {**routes, "champion_since": tx.now})
        self.watch = Watch(self.state)
        self.serve()

    def serve(self):
        self.server = Running(Config(state=self.state, port=0), {1: Fake(1)})
        self.server.start()
        if not self.server.server.plane.versions.standing.ready:
            self.server.put(table())

    def predict(self, count: int) -> int:
        """How many of so many predictions went unrecorded."""
        replies = [self.server.post("/predict", ROW) for _ in range(count)]
        assert {reply.status for reply in replies} == {200}
        return sum(reply.json["prediction_ids"] == [None] for reply in replies)

    def round(self):
        self.watch.look()
        self.watch.heed(self.store, PROJECT)

    @property
    def told(self):
        with self.store.read() as tx:
            found = events.after(tx, PROJECT, 0, kind="incident")
        return [(event.kind, event.reason) for event in found]

    @property
    def incident(self):
        with self.store.read() as tx:
            return open_one(tx, PROJECT, IncidentKind.journal)

    def status(self) -> StatusView:
        with self.store.read() as tx:
            found = status.take(tx, PROJECT, idle=True, replaying=False, freshness=None)
        return view(replace(found, recording=self.watch.troubles()), StatusView)

    def close(self):
        self.server.stop()
        self.store.close()


@pytest.fixture
def shop(tmp_path, database):
    made = Shop(tmp_path, database)
    yield made
    made.close()


@contextmanager
def full():
    """While it lasts, no journal can be written: what a full disk answers."""
    write = os.write

    def refuse(descriptor, data):
        if Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".seg":
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trueline.journal.segments.os.write", refuse)
        yield


def test_an_incident_opens_once_is_kept_current_and_closes_once_with_the_count(shop):
    shop.predict(3)
    shop.round()
    assert shop.told == []
    with full():
        assert shop.predict(4) == 4
        shop.round()
        shop.round()
        ((kind, reason),) = shop.told
        assert kind == "incident.open"
        assert "No space left on device" in reason
        assert "free some disk space; 4 predictions went unrecorded" in reason
        shop.predict(2)
        shop.round()
        assert shop.incident.reason.endswith("6 predictions went unrecorded")
        assert shop.incident.cause == {"unrecorded": 6, "servers": "r0"}
        assert (shop.incident.advice, shop.incident.version) == ("make_room", 1)
        assert "6 predictions went unrecorded" in shop.status().sentence
    assert shop.predict(1) == 0
    shop.round()
    shop.round()
    assert [kind for kind, _ in shop.told] == ["incident.open", "incident.close"]
    assert shop.told[1][1] == "journals are written and shipped again; 6 predictions went unrecorded"


def test_trouble_that_began_and_ended_between_two_looks_is_told_all_the_same(shop):
    with full():
        shop.predict(2)
    shop.predict(1)
    shop.round()
    assert [kind for kind, _ in shop.told] == ["incident.open", "incident.close"]
    assert shop.told[0][1] == "a journal could not be written for a moment; 2 predictions went unrecorded"
    shop.round()
    with full():
        shop.predict(1)
        shop.round()
    assert shop.told[2][1].endswith("1 prediction went unrecorded"), "a new incident counts anew"


def test_a_server_that_is_restarted_on_the_full_disk_counts_on(shop):
    with full():
        shop.predict(3)
        shop.round()
        shop.server.stop()
        shop.serve()
        shop.predict(2)
        shop.round()
        assert shop.incident.cause["unrecorded"] == 5
        assert len(shop.told) == 1
    shop.predict(1)
    shop.round()
    assert [kind for kind, _ in shop.told] == ["incident.open", "incident.close"]


def test_a_control_process_that_died_between_two_looks_neither_tells_twice_nor_counts_twice(shop):
    with full():
        shop.predict(3)
        shop.round()
        shop.watch = Watch(shop.state)  # the next process
        shop.round()
        shop.predict(1)
        shop.watch = Watch(shop.state)
        shop.round()
        assert shop.incident.cause["unrecorded"] == 4
    assert len(shop.told) == 1


def test_a_server_that_is_gone_for_good_keeps_no_incident_open(shop, monkeypatch):
    with full():
        shop.predict(1)
        shop.round()
        shop.server.stop()
    shop.round()
    assert shop.incident is not None, "it may come back"
    monkeypatch.setattr(unrecorded, "GONE_SECONDS", -1.0)
    shop.round()
    assert shop.incident is None


def test_status_shows_it_while_it_lasts_and_what_was_lost_afterwards(shop):
    with full():
        shop.predict(2)
        (one,) = shop.watch.troubles()
        assert (one.replica, one.unrecorded) == ("r0", 2)
        (said,) = [text for name, text in _facts(shop.status()) if name == "journal"]
        assert said.startswith("r0: the journal ")
        assert said.endswith("free some disk space; 2 predictions went unrecorded since it started")
    shop.predict(1)
    shop.watch.look()
    assert ("journal", "r0: 2 predictions went unrecorded since it started") in _facts(shop.status())


def test_damage_that_stops_shipping_is_an_incident_until_it_is_mended(tmp_path):
    state = StateFolder(tmp_path / "state").create()
    with Writer(state.journal("r0")) as writer:
        for number in (1, 2):
            writer.append(mixed(number))
            writer.seal()
    path = segments.path_of(state.journal("r0"), 1)
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    shop = Shop(tmp_path)
    command = [sys.executable, "-m", "trueline.shipping", "--state", str(state.root)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as shipper:
        try:
            eventually(lambda: shop.round() or shop.incident, 30)
            assert "000000000001.seg is damaged at byte 0" in shop.incident.reason
            assert shop.incident.advice == "mend"
            subprocess.run([*command, "--mend"], check=True, capture_output=True)
            assert ask(state.socket("shipper-r0"), {"op": "ship"})["ok"]
            shop.round()
            assert [kind for kind, _ in shop.told] == ["incident.open", "incident.close"]
        finally:
            shipper.kill()
    shop.close()


@pytest.mark.real
@pytest.mark.slow
def test_a_disk_that_is_really_full_database_and_all_is_told_when_there_is_room_again(tmp_path):
    need(mountable(), "the right to mount a small disk (root)")
    with disk("tmpfs", tmp_path, 24) as root:
        shop = Shop(root)
        shop.predict(1)
        fill(root / "filler")
        while not shop.predict(20):
            pass
        lost = shop.predict(10)
        assert lost == 10
        (one,) = shop.watch.troubles()
        assert one.problem is not None, "status asks the servers, and needs no room"
        (root / "filler").unlink()
        shop.round()
        shop.predict(1)
        shop.round()
        counted = shop.server.admin("status")["unrecorded"]
        assert [kind for kind, _ in shop.told] == ["incident.open", "incident.close"]
        assert shop.told[1][1].endswith(f"{counted} predictions went unrecorded")
        shop.close()
