"""Route tables reach every server; what a person set on a server is imported, never overwritten unheard."""

import contextlib
import json
import socket
import threading
from dataclasses import replace

import pytest
from sqlalchemy import select

from trueline import audits, routefile
from trueline.clock import ManualClock
from trueline.control import endpoints, events, status
from trueline.domain.routes import Arm, Route, RouteTable, decode, encode, loads
from trueline.errors import Unavailable
from trueline.releases import delivery
from trueline.settings import StateFolder
from trueline.store import outbox
from trueline.store.engine import open_store


class Server:
    """A serving process's admin socket with its rules: epochs only grow, and a hold needs to be named to be ended."""

    def __init__(self, path, table):
        self.table = table
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                channel, _ = self._socket.accept()
            except OSError:
                return
            with channel, channel.makefile("rwb") as stream:
                answer = self.answer(json.loads(stream.readline()))
                stream.write(json.dumps(answer).encode() + b"\n")

    def answer(self, asked):
        if asked["op"] != "route":
            return {"ok": True, "epoch": self.table.epoch, "hold": self.table.hold, "table": encode(self.table)}
        table = decode(asked["table"])
        ends_hold = table.hold or asked.get("over_hold") == self.table.epoch
        if table != self.table and (table.epoch <= self.table.epoch or (self.table.hold and not ends_hold)):
            return {"ok": False, "error": "an older table, or held"}
        self.table = table
        return {"ok": True, "epoch": table.epoch}

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def table(epoch, version, *, hold=False):
    return RouteTable(epoch, "p", (Route(version, Arm.champion, 1.0, "/m", "d"),), hold=hold)


@pytest.fixture
def folder(tmp_path):
    return StateFolder(tmp_path / "state").create()


@pytest.fixture
def store(database):
    opened = open_store(database, ManualClock())
    with opened.begin() as tx:
        endpoints.crown(tx, "p", 1)
    yield opened
    opened.close()


@pytest.fixture
def server(folder):
    made = Server(folder.socket("serve-r0"), table(1, 1))
    yield made
    with contextlib.suppress(OSError):
        made.close()


def want(store, wanted):
    """What a controller's move leaves: the table in its row, and the intent to deliver it."""
    with store.begin() as tx:
        box = endpoints.tables.endpoints
        tx.execute(endpoints.update(box).where(box.c.project == "p").values(epoch=wanted.epoch, routes=encode(wanted)))
        outbox.put(tx, "p", "route", f"route/p/{wanted.epoch}", {"project": "p", "epoch": wanted.epoch})


def settle(store, folder):
    for _ in range(4):
        delivery.deliver(store, folder, "p")
    with store.read() as tx:
        return endpoints.get(tx, "p"), outbox.count_open(tx, "p", ("route",))


def test_a_table_whose_shadow_is_still_to_come_is_in_force_and_stays_to_be_completed(store, folder, server):
    shadow = Route(8, Arm.shadow, 0.0, "/s", "d")
    whole = replace(table(2, 7), routes=(*table(2, 7).routes, shadow))
    want(store, whole)
    delivery.deliver(store, folder, "p", lambda wanted: replace(wanted, routes=wanted.routes[:1]))
    with store.read() as tx:
        assert (endpoints.get(tx, "p").acknowledged, outbox.count_open(tx, "p", ("route",))) == (2, 1)
    assert server.table == table(2, 7)


def test_a_table_is_pushed_acknowledged_and_kept_for_restarts(store, folder, server):
    want(store, table(2, 7))
    endpoint, open_intents = settle(store, folder)
    assert server.table == table(2, 7)
    assert (endpoint.acknowledged, open_intents) == (2, 0)
    assert loads(folder.routes.read_text()) == table(2, 7)


def test_without_any_server_the_file_is_the_delivery(store, folder):
    want(store, table(2, 7))
    endpoint, open_intents = settle(store, folder)
    assert (endpoint.acknowledged, open_intents) == (2, 0)


@pytest.mark.parametrize("epoch", [2, 3, 5])
def test_a_hold_that_control_has_not_heard_of_wins_over_the_table_it_had_decided(store, folder, server, epoch):
    server.table = table(2, 1, hold=True)
    want(store, table(epoch, 7))
    endpoint, open_intents = settle(store, folder)
    assert server.table.hold
    assert [route.version for route in server.table.routes] == [1]
    assert (endpoint.table.hold, endpoint.champion, open_intents) == (True, 1, 0)
    assert endpoint.table == server.table


def test_a_later_decision_that_knows_the_hold_ends_it(store, folder, server):
    server.table = table(2, 1, hold=True)
    delivery.reconcile(store, folder, "p")
    with store.begin() as tx:
        held = endpoints.get(tx, "p").table
        endpoints.lift_hold(tx, "p")
    want(store, replace(table(held.epoch + 1, 7)))
    endpoint, open_intents = settle(store, folder)
    assert [route.version for route in server.table.routes] == [7]
    assert not server.table.hold
    assert (endpoint.table.hold, open_intents) == (False, 0)


def test_a_server_that_lags_behind_is_pushed_again(store, folder, server):
    want(store, table(2, 7))
    settle(store, folder)
    server.table = table(1, 1)
    delivery.reconcile(store, folder, "p")
    settle(store, folder)
    assert server.table == table(2, 7)


def test_a_full_disk_does_not_keep_a_rollback_from_the_servers_of_another_machine(store, folder, server, monkeypatch):
    """Where no leader delivers, reconciling is all there is."""

    def full(*_):
        raise Unavailable("no space left")

    monkeypatch.setattr(routefile, "write", full)
    want(store, table(2, 7))
    delivery.reconcile(store, folder, "p")
    assert server.table == table(2, 7)


def test_a_version_that_a_server_died_of_is_an_event_once(store, folder, server):
    apart = {"version": 7, "digest": "sha256:d", "reason": "the serving process died while it was scoring version 7"}
    told = {"ok": True, "replica": "r0", "epoch": 1, "table": encode(server.table), "contained": [apart]}
    server.answer = lambda _: told
    for _ in range(2):
        delivery.reconcile(store, folder, "p")
    with store.read() as tx:
        found = events.after(tx, "p", 0, kind="version.contain")
    assert [(one.ref, one.detail["replica"]) for one in found] == [("p/v7", "r0")]
    assert found[0].reason == f"{apart['reason']}; the version runs in a process of its own on that machine from now on"


def test_one_server_that_takes_its_time_keeps_no_other_waiting(store, folder, server):
    """All are asked before any has answered."""
    other = Server(folder.socket("serve-r1"), table(1, 1))
    both = threading.Barrier(2, timeout=20)
    for one in (server, other):
        one.answer = lambda asked, answer=one.answer: (both.wait(), answer(asked))[1]
    want(store, table(2, 7))
    endpoint, open_intents = settle(store, folder)
    assert (server.table, other.table) == (table(2, 7), table(2, 7))
    assert (endpoint.acknowledged, open_intents) == (2, 0)
    other.close()


def test_of_a_server_that_takes_too_long_it_is_said_what_it_is_still_loading(folder, server):
    said = {"ok": True, "hold": False, "table": encode(server.table), "loading": [{"version": 7, "failed": "it hung"}]}
    server.answer = lambda _: said
    path, wanted = folder.socket("serve-r0"), table(2, 7)
    silence, refusal = Unavailable("it does not answer"), Unavailable("it will not")
    silence.__cause__ = TimeoutError()
    with pytest.raises(Unavailable, match=r"^serve-r0 is still loading version 7; the last attempt failed: it hung$"):
        delivery._insist(path, folder, wanted, frozenset(), silence)
    with pytest.raises(Unavailable, match=r"^it will not$"):
        delivery._insist(path, folder, wanted, frozenset(), refusal)


def test_status_says_why_the_newest_routes_are_not_on_every_server(store, folder, server):
    accepts = server.answer

    def undelivered():
        delivery.deliver(store, folder, "p")
        with store.read() as tx:
            return status.take(tx, "p", idle=True, replaying=False, freshness=None).undelivered

    refused = {"ok": False, "error": "no room for version 7"}
    server.answer = lambda asked: refused if asked["op"] == "route" else accepts(asked)
    want(store, table(2, 7))
    assert undelivered() == "serve-r0 refused route: no room for version 7"
    server.answer = accepts
    want(store, table(3, 8))
    assert undelivered() is None, "the older table waits for its next try, which brings nothing new"
    assert server.table == table(3, 8)


def test_a_socket_that_a_dead_server_left_does_not_count(store, folder, server):
    server.close()
    want(store, table(2, 7))
    endpoint, open_intents = settle(store, folder)
    assert (endpoint.acknowledged, open_intents) == (2, 0)


def told(store):
    with store.read() as tx:
        box = endpoints.tables.events
        found = tx.execute(select(box.c.kind, box.c.ref, box.c.actor, box.c.reason).where(box.c.kind.like("version.%")))
        return [tuple(row) for row in found]


def test_what_servers_were_asked_to_load_becomes_events_once(store, folder, monkeypatch):
    audits.put(folder.audits, audits.Note("load", 3, "ann", "r0", 5))
    audits.put(folder.audits, audits.Note("unload", 3, "local", "r0", 6))
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):  # killed between the events and the removal of their notes
            delivery.reconcile(store, folder, "p")
    assert len(audits.waiting(folder.audits)) == 2
    audits.put(folder.audits, audits.Note("load", 4, "bob", "r1", 7))
    for _ in range(2):
        delivery.reconcile(store, folder, "p")
    assert audits.waiting(folder.audits) == []
    assert told(store) == [
        ("version.load", "p/v3", "ann", "version 3 was loaded on the model server; it is not routed"),
        ("version.unload", "p/v3", "local", "version 3 was let go of on the model server; it was not routed"),
        ("version.load", "p/v4", "bob", "version 4 was loaded on the model server; it is not routed"),
    ]


def test_a_draft_of_a_note_and_a_note_that_is_none_are_left_alone(store, folder):
    folder.audits.mkdir()
    (folder.audits / "1.draft").write_text("{")
    (folder.audits / "2.json").write_text("{}")
    delivery.reconcile(store, folder, "p")
    assert told(store) == []
    assert len(list(folder.audits.iterdir())) == 2
