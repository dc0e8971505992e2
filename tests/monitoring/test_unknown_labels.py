"""Labels whose prediction nobody knows: counted, shown, and no longer counted once the prediction turns up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from deltalake import write_deltalake
from sqlalchemy import select

from trueline.cli.status import _facts
from trueline.clock import to_us
from trueline.control import blocks, clocks, status
from trueline.data import labels, predictions
from trueline.data.tables import Tables
from trueline.monitoring import evaluation, loop
from trueline.store import tables as stored
from trueline.web.api.calls import view
from trueline.web.api.status import StatusView
from trueline.wiring import open_context

DAY = datetime(2026, 3, 1, tzinfo=UTC)
PROJECT = """\
version: 1
project: world
data: {source: rows.csv, target: y}
train: model.py:fit
"""


class Place:
    """A project with tables and no servers, in which blocks are evaluated and judged by hand."""

    def __init__(self, folder):
        (folder / "trueline.yaml").write_text(PROJECT)
        self.context = open_context(folder / "trueline.yaml", replay=True)
        self.tables = Tables(self.context.storage)
        with self.context.store.begin() as tx:
            clocks.set_replayed(tx, DAY + timedelta(days=9))

    def append(self, table, schema, *given):
        place = self.context.storage.table(table)
        plain = [dict.fromkeys(schema.names()) | one for one in given]
        frame = pl.DataFrame(plain, schema=schema, orient="row")
        write_deltalake(place.uri, frame, mode="append", partition_by=["day"])

    def predict(self, *names, at=DAY):
        times = {"event_us": to_us(at), "received_us": to_us(at), "day": at.date().isoformat()}
        more = {"version": 1, "arm": "champion", "weight": 1.0, "outcome": "answered", "prediction": 1.0}
        self.append("predictions", predictions.SCHEMA, *({"prediction_id": name, **times, **more} for name in names))

    def label(self, *names, at=DAY):
        times = {"event_us": to_us(at), "received_us": to_us(at), "day": at.date().isoformat()}
        said = {"value": 1.0, "source": "api"}
        self.append(
            "labels",
            labels.SCHEMA,
            *({"label_id": f"l-{name}", "prediction_id": name, **times, **said} for name in names),
        )

    def judge(self, day):
        """Have a day's block evaluated and judged, as worker and control do; the reason of its evaluation."""
        with self.context.store.begin() as tx:
            blocks.make_due(tx, "world", day.date().isoformat(), day)
        assert evaluation.work_one(self.context, self.tables)
        with self.context.store.read() as tx:
            block = blocks.next_to_judge(tx, "world")
            box = stored.events
            told = tx.execute(select(box.c.reason).where(box.c.kind == "block.evaluate").order_by(box.c.id.desc()))
            reason = told.scalars().first()
        loop.judge(self.context, block)
        return reason

    def status(self):
        with self.context.store.read() as tx:
            return status.take(tx, "world", idle=True, replaying=True, freshness=None)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.context.store.close()


def test_labels_that_name_no_known_prediction_are_counted_told_and_shown(place):
    place.predict("a", "b", "c")
    place.label("a", "b", "typo", at=DAY + timedelta(hours=2))
    place.label("typo", "lost", at=DAY + timedelta(days=1))
    told = place.judge(DAY)
    assert told.startswith("2026-03-01: 2 of 3 predictions labelled")
    assert told.endswith("; labels name 2 predictions that are not known")
    found = place.status()
    assert (found.labels, found.unknown_labels) == (2, 2)
    shown = view(found, StatusView)
    assert shown.unknown_labels == 2
    said = "2 on the days judged so far; those of the last days name 2 predictions that are not known"
    assert dict(_facts(shown))["labels"] == said


def test_a_label_that_came_before_its_prediction_was_shipped_is_not_counted_once_it_is(place):
    place.predict("a")
    place.label("a", "b", at=DAY + timedelta(hours=1))
    assert "name 1 predictions" in place.judge(DAY)
    place.predict("b", at=DAY + timedelta(hours=1))  # of another server, whose shipper was away
    place.predict("c", at=DAY + timedelta(days=1))
    place.label("c", "b", at=DAY + timedelta(days=1))
    assert "not known" not in place.judge(DAY + timedelta(days=1))
    assert place.status().unknown_labels == 0


def test_a_label_that_comes_months_late_is_not_taken_for_an_unknown_one(place):
    place.predict("old", at=DAY - timedelta(days=90))
    place.label("old", at=DAY)
    assert "not known" not in place.judge(DAY)


def test_without_any_prediction_every_label_is_unknown(place):
    place.label("a", "b")
    assert place.judge(DAY).startswith("2026-03-01: 0 predictions, none labelled; labels name 2")
    place.predict("c", at=DAY + timedelta(days=1))
    assert place.judge(DAY + timedelta(days=1)) == "2026-03-02: 1 predictions, none labelled"
