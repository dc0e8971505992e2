"""`--sync` from the command line to the answer: on the disk first, and an answer that is not says so."""

from __future__ import annotations

import os

import pytest
from serving_world import Fake, Running, table

from trueline.journal.records import LabelRecord, PredictionRecord
from trueline.serving import __main__ as program
from trueline.serving.server import Config
from trueline.settings import StateFolder

ROW = {"x": 1.0, "n": 1}


@pytest.fixture
def running(tmp_path):
    made = Running(Config(state=StateFolder(tmp_path / "state").create(), port=0, sync=True), {1: Fake(1)})
    made.start()
    assert made.put(table())["ok"]
    yield made
    made.stop()


def test_an_answer_comes_after_its_record_is_on_the_disk(running, monkeypatch):
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(
        "trueline.journal.segments.os.fdatasync", lambda file: (synced.append(os.fstat(file).st_size), real(file))
    )
    for count in (1, 2, 3):
        assert running.post("/predict", ROW).status == 200
        assert len(synced) == count
        assert synced[-1] == running.server.plane.journal.bytes_written


def test_a_disk_that_fails_to_sync_leaves_predictions_unrecorded_and_labels_refused(running, monkeypatch):
    def fails(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("trueline.journal.segments.os.fdatasync", fails)
        reply = running.post("/predict", ROW)
        assert (reply.status, reply.json["prediction_ids"]) == (200, [None])
        assert reply.headers["trueline-unrecorded"]
        refused = running.post("/labels", {"prediction_id": "p-0", "value": 1})
        assert refused.status == 503
        assert "Input/output error" in refused.error
        assert running.admin("status")["unrecorded"] == 1
        assert running.admin("ping")["journal_problem"] is not None
    told = running.post("/predict", ROW).json["prediction_ids"][0]
    assert told is not None
    assert told.removesuffix("-0") in {record.request_id for record in running.records(PredictionRecord)}
    assert running.post("/labels", {"prediction_id": told, "value": 1}).json["label_ids"][0] in {
        record.label_id for record in running.records(LabelRecord)
    }


@pytest.mark.parametrize("given", [(), ("--sync",)])
def test_the_option_reaches_the_journal(tmp_path, monkeypatch, given):
    seen = []

    async def note(config):
        seen.append(config.sync)

    monkeypatch.setattr(program, "_serve", note)
    assert program.main(["--state", str(tmp_path / "state"), "--port", "0", *given]) == 0
    assert seen == [bool(given)]
