"""The guesses of `trueline init` on data as people have it, and that it asks or refuses where it cannot know."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from trueline.cli import guessing
from trueline.cli.guessing import Guess, Unclear
from trueline.cli.looking import Function, LoggedModel

N = 40
DAYS = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(N)]
TEXT_DAYS = [f"{day:%Y-%m-%d}" for day in DAYS]
NUMBERS = [1.5 * n % 7 for n in range(N)]
YES_NO = ["yes", "no"] * (N // 2)


def columns(**data):
    return guessing.columns(pl.DataFrame(data))


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["homes.csv"], "homes.csv"),
        (["data/homes.csv"], "data/homes.csv"),
        (["train.csv", "test.csv", "sample_submission.csv"], "train.csv"),
        (["homes_train.parquet", "homes_other.parquet"], "homes_train.parquet"),
        (["churn.csv", "churn_test.csv"], "churn.csv"),
        (["homes.csv", "homes.parquet"], "homes.parquet"),
        (["homes.csv.gz", "homes.parquet"], "homes.parquet"),
        ([], None),
    ],
)
def test_the_source_is_the_table_that_is_meant(files, chosen):
    assert guessing.source(files).chosen == chosen


def test_of_two_tables_none_is_taken():
    assert guessing.source(["a.csv", "b.csv"]) == Unclear(("a.csv", "b.csv"), guessing.source(["a.csv", "b.csv"]).why)


@pytest.mark.parametrize(
    ("data", "chosen", "why"),
    [
        ({"x": NUMBERS, "when": DAYS}, "when", "the only column of dates"),
        ({"x": NUMBERS, "when": TEXT_DAYS}, "when", "the only column of dates"),
        ({"born": DAYS, "created_at": DAYS}, "created_at", "whose name says so, of 2"),
        ({"born": DAYS, "createdAt": DAYS}, "createdAt", "whose name says so, of 2"),
        ({"arrived": [DAYS[0], *DAYS[:-1]], "left": DAYS}, "left", "most different values"),
        ({"when": [f"{day:%d/%m/%Y}" for day in DAYS]}, None, "when looks like dates (01/01/2026)"),
        ({"when": [None, *DAYS[1:]]}, None, "when has gaps"),
        ({"x": NUMBERS}, None, "no column of dates"),
    ],
)
def test_the_time_is_the_column_of_dates_that_says_so(data, chosen, why):
    found = guessing.time(columns(**data))
    assert found.chosen == chosen
    assert why in found.why


@pytest.mark.parametrize(
    ("data", "chosen"),
    [
        ({"id": range(N), "x": NUMBERS}, "id"),
        ({"customer_id": [n // 2 for n in range(N)], "x": NUMBERS}, "customer_id"),
        ({"shop_id": [n % 3 for n in range(N)], "order_id": range(100, 100 + N)}, "order_id"),
        ({"customerID": [f"C{n}" for n in range(N)], "plan": YES_NO}, "customerID"),
        ({"row": range(7, 7 + N), "x": NUMBERS}, "row"),
        ({"paid": range(0, 2 * N, 2), "valid": [n * n for n in range(N)]}, None),
        ({"name": [f"n{n}" for n in range(N)]}, "name"),
        ({"id": [None, *range(1, N)]}, None),
        ({"x": NUMBERS}, None),
    ],
)
def test_the_entity_is_what_is_named_or_counts_like_one(data, chosen):
    assert guessing.entity(columns(**data), ()).chosen == chosen


WHOLE = [n * 7 % 31 for n in range(N)]


@pytest.mark.parametrize(
    ("data", "chosen"),
    [
        ({"area": NUMBERS, "rooms": WHOLE, "price": NUMBERS}, "price"),
        ({"area": NUMBERS, "SalePrice": WHOLE, "rooms": WHOLE}, "SalePrice"),
        ({"a": NUMBERS, "b": WHOLE, "y": WHOLE}, "y"),
        ({"a": NUMBERS, "Target": WHOLE, "price": NUMBERS}, "Target"),
        ({"a": NUMBERS, "label": YES_NO, "b": WHOLE}, "label"),
        ({"tenure": WHOLE, "spent": NUMBERS, "Churn": YES_NO}, "Churn"),
        ({"amount": NUMBERS, "old": WHOLE, "is_fraud": [0, 1] * (N // 2)}, "is_fraud"),
        ({"town": ["a", "b", "c", "d"] * (N // 4), "won": [True, False] * (N // 2)}, "won"),
        ({"id": range(N), "quality": WHOLE, "acid": NUMBERS}, "quality"),
    ],
)
def test_the_target_is_what_is_named_like_one(data, chosen):
    assert guessing.target(columns(**data), (), None, None).chosen == chosen


@pytest.mark.parametrize(
    ("data", "candidates"),
    [
        ({"a": NUMBERS, "b": WHOLE, "c": YES_NO}, ("a", "b", "c")),
        ({"price": NUMBERS, "sold": YES_NO, "rooms": WHOLE}, ("price", "sold")),
        ({"town": ["a", "b", "c", "d"] * (N // 4), "b": WHOLE, "c": NUMBERS}, ("b", "c")),
    ],
)
def test_of_several_targets_none_is_taken(data, candidates):
    found = guessing.target(columns(**data), (), None, None)
    assert isinstance(found, Unclear)
    assert found.candidates == candidates


MODEL = LoggedModel("ml/churn", "sklearn", ("a", "b"), None, None, ())


@pytest.mark.parametrize(
    ("model", "said", "chosen", "why"),
    [
        (None, "a", "a", "the training code names it"),
        (None, "zzz", None, ""),
        (MODEL, None, "c", "the one column that the MLflow model in ml/churn does not take"),
        (LoggedModel("m", "sklearn", ("a",), "b", None, ()), None, "b", "what the MLflow model in m predicts"),
        (MODEL, "b", "b", "the training code names it"),
    ],
)
def test_code_and_a_logged_model_know_better_than_names(model, said, chosen, why):
    found = guessing.target(columns(a=NUMBERS, b=WHOLE, c=YES_NO), (), model, said)
    assert isinstance(found, Unclear) if chosen is None else (found.chosen, why in found.why) == (chosen, True)


def test_a_target_says_what_it_makes_of_the_task():
    assert guessing.target(columns(y=YES_NO), (), None, None).why.endswith("two different values, so a classification")
    assert guessing.target(columns(y=WHOLE), (), None, None).why.endswith("31 different numbers, so a regression")
    assert guessing.target(columns(town=["a", "b", "c", "d"] * 10), (), None, None).chosen is None


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        ([], None),
        (["model.py:train_model"], "model.py:train_model"),
        (["model.py:train", "model.py:fit"], "model.py:fit"),
        (["a.py:fit", "train.py:fit"], "train.py:fit"),
    ],
)
def test_the_training_function_is_the_likeliest(entries, chosen):
    assert guessing.train([Function(entry, 1) for entry in entries]).chosen == chosen


def test_a_pipeline_goes_before_its_steps_own_functions():
    found = guessing.train([Function("a.py:fit", 3), Function("a.py:churn", 9, pipeline=True)])
    assert found == Guess("a.py:churn", "taken before a.py:fit")
