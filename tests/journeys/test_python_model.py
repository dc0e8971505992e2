"""Somebody's own Python object as a model, from `fit` to served answers, and the same answers for a file."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest
from journey import Desk, frame

# MLflow 3.17 on SQLAlchemy 2.1
pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

MODEL = """\
import numpy as np
from shades import SHADES


class Blend:
    columns = ("x", "z", "color")

    def __init__(self, weights):
        self.weights = weights

    def predict(self, frame):
        if (frame["x"] == 666).any():
            import os
            os.abort()
        return (features(frame) * self.weights).sum(axis=1)


def features(frame):
    shade = np.array([SHADES.get(color, 0.0) for color in frame["color"]])
    return np.column_stack([frame["x"], frame["z"], shade, np.ones(len(frame))])


def fit(frame):
    weights, *_ = np.linalg.lstsq(features(frame), frame["y"].to_numpy(), rcond=None)
    return Blend(weights)
"""


@pytest.fixture(scope="module")
def desk(new_desk) -> Desk:
    desk = new_desk("python-model")
    desk.data("won", "answer")
    desk.project(MODEL)
    desk.write("shades.py", 'SHADES = {"red": 1.0}\n')
    said = desk.trueline("run", "--json")
    assert said.code == 0, said.err
    assert said.json["release"]["state"] == "promoted"
    return desk


def test_an_own_class_is_trained_judged_served_and_scores_a_file(desk):
    (model,) = Path(desk.state.root).glob("runs/run-1/model")
    assert sorted(path.name for path in (model / "code").glob("*.py")) == [
        "model.py",
        "shades.py",
        "trueline_python_model.py",
    ]
    (desk.folder / "shades.py").write_text("SHADES = {}\n")  # what serves is what was trained
    rows = frame(rows=40, seed=9).drop("y", "won", "answer")
    rows.write_parquet(desk.folder / "new.parquet")
    said = desk.trueline("predict", "--input", "new.parquet", "--output", "scored.parquet", "--json")
    assert said.code == 0, said.err
    assert (said.json["rows"], said.json["version"], said.json["executor"]) == (40, 1, "python")
    scored = pl.read_parquet(desk.folder / "scored.parquet")
    up = desk.up()
    asked = rows.select("x", "z", "color").rows(named=True)
    reply = up.ask("POST", "/predict", {"instances": asked})
    assert reply.status == 200, reply.body
    assert reply.json["predictions"] == scored["prediction"].to_list()
    died = up.ask("POST", "/predict", {"x": 666, "z": 0, "color": "red"})
    assert died.status in (500, 503)  # its process died, the server did not
    deadline = time.monotonic() + 60
    while (reply := up.ask("POST", "/predict", asked[0])).status != 200:  # its next process is being started
        assert time.monotonic() < deadline, reply.body
    assert reply.json["predictions"] == scored["prediction"].to_list()[:1]
    code, err = up.stop()
    assert code == 0, err


def test_a_server_may_refuse_pickles(desk):
    path = desk.folder / "trueline.yaml"
    path.write_text(path.read_text() + "serve: {pickle: false}\n")
    desk.write("model.py", MODEL + "\n\nVERSION = 2\n\n\ndef unused():\n    return VERSION\n")
    said = desk.trueline("run", "--json")
    assert said.code == 1
    assert "can only be kept as a pickled object, and serve.pickle is false" in said.err
