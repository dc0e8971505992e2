"""Labelled predictions become training rows: features as they were served, the label in the target's own words."""

import json

import polars as pl
import pytest

from trueline.data import predictions
from trueline.domain.contracts import Column, Contract, Kind, Role
from trueline.errors import InvalidData
from trueline.pipelines.feedback import rows_of


def served(number, **features):
    row = dict.fromkeys(predictions.SCHEMA)
    row |= {"prediction_id": f"r-{number}", "event_us": number, "arm": "champion", "features": json.dumps(features)}
    return row


def contract(kind, categories=None):
    target = Column("y", kind, nullable=True, categories=categories, role=Role.target)
    return Contract((Column("x", Kind.float64), target, Column("at", Kind.datetime, role=Role.time)))


def learn(kind, categories=None):
    rows = pl.DataFrame([served(1, x=0.5), served(2, x=1.5), served(3, x=2.5)], schema=predictions.SCHEMA)
    labels = pl.DataFrame({"prediction_id": ["r-1", "r-2"], "value": [1.0, 0.0]})
    return rows_of(rows, labels, contract(kind, categories)).sort("_prediction_id")


def test_only_labelled_rows_are_learned_from_with_features_as_served():
    rows = learn(Kind.float64)
    assert rows["_prediction_id"].to_list() == ["r-1", "r-2"]
    assert rows["x"].to_list() == [0.5, 1.5]
    assert rows["y"].to_list() == [1.0, 0.0]
    assert rows["at"].null_count() == 0


def test_a_boolean_target_gets_booleans():
    assert learn(Kind.boolean)["y"].to_list() == [True, False]


def test_a_target_of_two_texts_gets_its_texts():
    assert learn(Kind.string, ("yes", "no"))["y"].to_list() == ["yes", "no"]


def test_a_target_whose_texts_are_not_known_is_told():
    with pytest.raises(InvalidData, match="give it the two that mean 0 and 1"):
        learn(Kind.string)
