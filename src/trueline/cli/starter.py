"""What `trueline init` writes: a project file that says why, and a model to begin with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from trueline.projectfile.kinds import scalar

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

HEAD = (
    "# What should be true of this model. Four facts are enough; `trueline explain` lists the rest with its defaults."
)


@dataclass(frozen=True)
class Line:
    """One key of the file to write, and why it says what it says; no value is a key for the user to fill in."""

    key: str
    value: str | None
    why: str = ""


def project_file(project: str, data: Sequence[Line], rest: Sequence[Line]) -> str:
    """The text of a project file."""
    top = [Line("version", "1"), Line("project", scalar(project))]
    lines = [*_written(top, ""), "data:", *_written(data, "  "), *_written(rest, "")]
    return "\n".join([HEAD, *lines]) + "\n"


def _written(lines: Sequence[Line], indent: str) -> list[str]:
    """The lines, their reasons aligned; a key without a value is a comment."""
    bare = [f"{indent}{one.key}: {one.value}" if one.value else f"{indent}# {one.key}: COLUMN" for one in lines]
    width = max(map(len, bare), default=0)
    said = [" ".join(one.why.split()) for one in lines]
    return [f"{text.ljust(width)}  # {why}" if why else text for text, why in zip(bare, said, strict=True)]


def model_file(*, target: str, leave_out: Sequence[str], classification: bool) -> str:
    """The text of a first model."""
    estimator = "HistGradientBoostingClassifier" if classification else "HistGradientBoostingRegressor"
    return MODEL.format(estimator=estimator, target=quoted(target), leave_out=", ".join(map(quoted, leave_out)))


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
