"""What `trueline init` writes: a project file that says its defaults, and a model to begin with."""

from __future__ import annotations

import json

PROJECT = """\
# What should be true of this model. Four facts are enough; what is left out has a safe default.
version: 1
project: {project}
data:
  source: {source}
  target: {target}{time}{entity}
train: {train}
"""

MODEL = '''\
"""How the model is trained: any function that takes the rows and returns a fitted scikit-learn estimator."""

import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import {estimator}
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

TARGET = {target}
LEAVE_OUT = [{leave_out}]


def fit(frame: pl.DataFrame, *, max_iter: int = 200):
    """Train on the rows of `frame`."""
    rows = frame.drop_nulls(TARGET)
    features = rows.drop([TARGET, *[name for name in frame.columns if name in LEAVE_OUT or name.startswith("_")]])
    words = [name for name, kind in features.schema.items() if kind == pl.String]
    encode = OneHotEncoder(handle_unknown="ignore", max_categories=50, sparse_output=False)
    model = make_pipeline(
        make_column_transformer((encode, words), remainder="passthrough"),
        {estimator}(max_iter=max_iter, random_state=0),
    )
    return model.fit(features, rows[TARGET])
'''


def project_file(*, project: str, source: str, target: str, time: str | None, entity: str | None, train: str) -> str:
    """The text of a project file."""
    return PROJECT.format(
        project=scalar(project),
        source=scalar(source),
        target=scalar(target),
        time=f"\n  time: {scalar(time)}" if time else "",
        entity=f"\n  entity: {scalar(entity)}" if entity else "",
        train=scalar(train),
    )


def model_file(*, target: str, leave_out: list[str], classification: bool) -> str:
    """The text of a first model."""
    estimator = "HistGradientBoostingClassifier" if classification else "HistGradientBoostingRegressor"
    return MODEL.format(estimator=estimator, target=quoted(target), leave_out=", ".join(map(quoted, leave_out)))


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def scalar(text: str) -> str:
    """A YAML scalar, quoted only where plain text could be read as something else.

    >>> scalar("data/flights.csv"), scalar("yes"), scalar("a: b")
    ('data/flights.csv', '"yes"', '"a: b"')
    """
    first, rest = text[:1], text[1:]
    plain = (first.isalpha() or first in "./_") and all(c.isalnum() or c in "./_-:" for c in rest) and ": " not in text
    words = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
    return text if plain and not text.endswith(":") and text.lower() not in words else quoted(text)
