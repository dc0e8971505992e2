from __future__ import annotations

from datetime import UTC, datetime, timedelta

from trueline.monitoring.causes import Lineage, first, ranked
from trueline.monitoring.rehearsal import PairedLoss, Refit, RehearsalBlock

START = datetime(2026, 1, 1, tzinfo=UTC)
NEW = Lineage(3, "run-3", tree="t2", dataset=7, replaced=2, release="release-3")
OLD = Lineage(2, "run-2", tree="t1", dataset=6)
EVIDENCE = {"served": {"n": 100, "loss": 15.0}}
SUSPECT = {
    "feature": "distance", "slice": "carrier=DL", "sign": "level", "since": "2026-01-01", "before": 700.0, "after": 1100.0,
    "explained": 0.9, "of_total": 0.25,
}  # fmt: skip


def _block(*pairs):
    refits = (Refit(4, START - timedelta(days=4), START - timedelta(days=3)),)
    return RehearsalBlock("2026-01-01", START, 3, refits, tuple(PairedLoss(a, b, 100, x, y) for a, b, x, y in pairs))


def test_suspects_are_ranked_by_their_share_of_the_loss_beyond_the_promise():
    evidence = {**EVIDENCE, "suspects": [SUSPECT]}
    found = ranked(evidence, _block((2, 3, 11.0, 15.0), (3, 4, 15.0, 14.0)), 10.0, NEW, OLD)
    assert [(one["kind"], one["share"]) for one in found] == [
        ("code", 0.8), ("release", 0.8), ("input", 0.75), ("age", 0.2),
    ]  # fmt: skip
    assert first(found).startswith("suspected: code run-3 (80%), release release-3 (80%), input distance in carrier=DL")


def test_the_same_code_on_newer_rows_makes_the_data_the_suspect():
    same = Lineage(2, "run-2", tree="t2", dataset=6)
    found = ranked(EVIDENCE, _block((2, 3, 11.0, 15.0)), 10.0, NEW, same)
    assert {one["kind"] for one in found} == {"release", "data"}
    assert "dataset version 7 instead of 6" in next(one["sentence"] for one in found if one["kind"] == "data")


def test_a_slice_that_no_input_explains_is_told_without_a_share():
    evidence = {**EVIDENCE, "harmed": [{"slice": "origin=JFK", "days": 5, "before": 1.0, "after": 3.0}]}
    (only,) = ranked(evidence, None, 10.0, NEW, None)
    assert (only["kind"], only["name"], only["share"]) == ("slice", "origin=JFK", None)
    assert "3.0 times as badly" in only["sentence"]


def test_where_nothing_stands_out_nobody_is_accused():
    found = ranked(EVIDENCE, _block((2, 3, 14.9, 15.0), (3, 4, 15.0, 15.2)), 10.0, NEW, OLD)
    assert found == []
    assert first(found) == "nothing measured explains it"
