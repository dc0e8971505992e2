"""Processes that share one port: one view of the counters, routes that reach each, and what one's death costs."""

import secrets
import shutil
from dataclasses import replace

import pytest
from serving_world import Fake, Running, eventually, route, table

from trueline.domain.routes import Arm
from trueline.errors import PackagingFailed, Unavailable
from trueline.journal.records import PredictionRecord
from trueline.releases import delivery
from trueline.serving import ports, siblings, signatures
from trueline.serving.limits import Limits
from trueline.serving.server import Config
from trueline.settings import StateFolder

ROW = {"x": 2.0, "n": 1}
MODELS = {1: Fake(1), 2: Fake(2)}


class Machine:
    """Processes of one port, each in a thread of this one."""

    def __init__(self, root):
        self.state = StateFolder(root).create()
        self.kept = ports.reserve("127.0.0.1", 0)
        self.group = secrets.token_hex(4)
        self.running = {}

    def start(self, replica, wanted=None, models=MODELS):
        config = Config(
            self.state,
            replica,
            port=self.kept.getsockname()[1],
            group=self.group,
            limits=Limits(sweep_seconds=0.02, linger_seconds=0.2),
        )
        one = self.running[replica] = Running(config, models)
        one.start()
        if wanted is not None:
            assert one.put(wanted)["ok"]
        return one

    def close(self):
        for one in self.running.values():
            one.stop()
        self.kept.close()
        shutil.rmtree(self.state.sockets, ignore_errors=True)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def both(machine):
    return machine.start("r0", table()), machine.start("r1", table())


def replica_of(answer):
    return answer.json["prediction_ids"][0].partition("-")[0]


def test_new_connections_are_dealt_out_and_every_process_journals_its_own(both):
    first, second = both
    seen = [replica_of(first.post("/predict", ROW))]
    while len(set(seen)) < 2:
        seen.append(replica_of(first.post("/predict", ROW)))
    journalled = {one.config.replica: len(one.records(PredictionRecord)) for one in both}
    assert journalled == {name: seen.count(name) for name in ("r0", "r1")}
    assert second.url == first.url


def test_whichever_process_is_asked_it_tells_the_sum(both):
    for _ in range(9):
        both[0].post("/predict", ROW)
    each = [one.call(lambda one=one: sum(one.server.plane.metrics.requests.values())) for one in both]
    assert sum(each) == 9
    for one in both:
        assert 'role="champion",code="200"} 9\n' in one.admin("metrics")["text"]
        assert one.admin("status")["machine"]["predictions"] == 9
    for _ in range(8):  # over the port: whoever gets the connection
        assert both[0].metric('trueline_inference_requests_total{model="m",version="1"') == 9
    assert both[0].metric("trueline_serving_processes") == 2


def test_the_sum_does_not_fall_when_a_process_ends_nor_when_it_comes_back(machine, both):
    first, second = both
    for _ in range(20):
        first.post("/predict", ROW)
    second.stop()
    assert first.admin("status")["machine"] == {
        "processes": 1,
        "predictions": 20,
        "shadows": 0,
        "labels": 0,
        "unrecorded": 0,
    }
    again = machine.start("r1")
    assert first.admin("status")["machine"]["predictions"] == 20
    assert again.admin("status")["machine"]["predictions"] == 20
    assert again.admin("status")["predictions"] == 0  # what this life of the process has journalled


def test_what_was_shown_of_a_process_is_kept_before_it_is_shown(both):
    """Else a kill after a scrape would make the next scrape less, which Prometheus takes for a restart of everything."""
    first, second = both
    while not second.admin("status")["predictions"]:
        first.post("/predict", ROW)
    shown = first.admin("status")["machine"]["predictions"]
    files = first.call(first.server.counters._files)
    assert sum(one["trueline_journal_records_total"]["predictions",] for one in files.values()) == shown


def test_with_a_new_parent_counters_begin_at_zero_together(machine, both):
    both[0].post("/predict", ROW)
    for one in both:
        one.stop()
    machine.group = "the next parent"
    assert machine.start("r0").admin("status")["machine"]["predictions"] == 0


def test_a_sibling_that_does_not_answer_in_time_is_read_from_its_file(both, monkeypatch):
    first, second = both
    while not second.admin("status")["predictions"]:
        first.post("/predict", ROW)
    shown = first.admin("status")["machine"]
    monkeypatch.setattr(siblings, "ASK_SECONDS", 0.0)
    assert first.admin("status")["machine"] == {**shown, "processes": 1}


def test_a_disk_that_is_full_does_not_hide_the_counters(both, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(siblings.os, "replace", full)
    both[0].post("/predict", ROW)
    assert both[0].admin("status")["machine"]["predictions"] == 1


def test_a_table_reaches_all_processes_and_one_that_is_gone_reads_it_when_it_comes_back(machine, both):
    first, second = both
    second.stop()
    wanted = replace(table(2), routes=(route(1, weight=0.5), route(2, Arm.canary, 0.5)))
    delivery._push(machine.state, wanted, frozenset())
    assert [first.admin("status")["epoch"], machine.start("r1").admin("status")["epoch"]] == [2, 2]


def test_a_process_that_refuses_does_not_keep_the_table_from_the_others(machine):
    able, unable = machine.start("r1", table()), machine.start("r0", table(), models={1: Fake(1)})
    with pytest.raises(Unavailable, match=r"serve-r0 refused route: .+ is not the one that was registered"):
        delivery._push(machine.state, replace(table(2), routes=(route(2),)), frozenset())
    assert (able.admin("status")["epoch"], unable.admin("status")["epoch"]) == (2, 1)


def test_requests_never_fail_while_tables_go_back_and_forth_between_both(machine, both):
    """In one process; test_machine.py does the same with real ones under real load."""
    first, second = both
    tables = [replace(table(epoch), routes=(route(1 + epoch % 2),)) for epoch in range(2, 12)]
    for wanted in tables:
        delivery._push(machine.state, wanted, frozenset())
        answers = {first.post("/predict", ROW).json["version"] for _ in range(4)}
        assert answers == {wanted.routes[0].version}
    assert [one.admin("status")["epoch"] for one in (first, second)] == [11, 11]


def test_a_signed_model_is_asked_for_and_not_there(tmp_path):
    signatures.check(tmp_path, required=False)
    with pytest.raises(PackagingFailed, match=r"is not signed \(it has no model\.sig\), and only signed ones load"):
        signatures.check(tmp_path, required=True)
    (tmp_path / "model.sig").write_text("?")
    signatures.check(tmp_path, required=False)
    with pytest.raises(PackagingFailed, match=r"model\.sig is required and this trueline cannot verify it yet"):
        signatures.check(tmp_path, required=True)


def test_a_process_that_comes_up_gets_no_connections_before_it_is_ready(machine):
    """While it waits for its journal, everything goes to the other one."""
    first = machine.start("r0", table())
    blocked = machine.start("r1", table())
    blocked.stop()
    with (machine.state.journal("r1") / "lock").open("w") as held:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = Running(blocked.config, MODELS)
        waiting._thread.start()
        assert {replica_of(first.post("/predict", ROW)) for _ in range(30)} == {"r0"}
    waiting.url = waiting._up.result(20)
    machine.running["r1"] = waiting
    eventually(lambda: replica_of(first.post("/predict", ROW)) == "r1")
