"""A file of rows gets the answers that a server gives to the same rows, bit by bit, and the same refusals."""

from __future__ import annotations

import json
import math
import re

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scoring_world import scored
from serving_world import Running, table

from trueline.errors import InvalidInput
from trueline.packaging.executors import load
from trueline.scoring.rows import Rules
from trueline.serving.checks import Checks
from trueline.serving.limits import Limits
from trueline.serving.runners import InProcess
from trueline.serving.server import Config
from trueline.settings import StateFolder

FLOATS32 = st.floats(width=32) | st.none() | st.sampled_from([0.0, -0.0, 100.0, 3.4028234663852886e38, 1e-45])
FLOATS64 = st.floats() | st.sampled_from([0.1, 5e-324, 1.7976931348623157e308, 1e39])
WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 25) | st.sampled_from([2**53 + 1, 2**60 + 2**36 + 1])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "wait": FLOATS32,
            "wind": FLOATS32,
            "exact": FLOATS64,
            "hour": st.integers(0, 23) | WHOLE,
            "stops": st.none() | WHOLE,
            "carrier": st.sampled_from(["A", "B", "C", "Z", "", "é"]) | st.none(),
        }
    ),
    min_size=1,
    max_size=12,
)
SCHEMA = {
    "wait": pl.Float32,
    "wind": pl.Float32,
    "exact": pl.Float64,
    "hour": pl.Int64,
    "stops": pl.Int64,
    "carrier": pl.String,
}


class Packaged(Running):
    """A server of one packaged model, in its own process whatever its executor."""

    def __init__(self, state, folder):
        super().__init__(Config(state=state, port=0, limits=Limits()), {})
        self.folder = folder

    async def _load(self, wanted):
        return InProcess(wanted.version, load(self.folder, None), self.server._scoreboard)


@pytest.fixture(scope="module")
def servers(models, tmp_path_factory):
    """`servers(name)`: a real server of the model."""
    started: dict[str, Packaged] = {}

    def get(name: str) -> Packaged:
        if name not in started:
            started[name] = Packaged(StateFolder(tmp_path_factory.mktemp(f"{name}-state")).create(), models(name))
            started[name].start()
            assert started[name].put(table())["ok"]
        return started[name]

    yield get
    for running in started.values():
        running.stop()


def as_json(row):
    """JSON has no NaN and no infinity; for a contract they are null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def as_null(problem):
    return re.sub("got (NaN|infinity)$", "got null", problem)


@pytest.mark.parametrize("name", ["boosting", "strings", "native"])
@settings(
    max_examples=12,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS)
def test_batch_and_online_answers_are_the_same(name, rows, models, servers, tmp_path):
    frame = pl.DataFrame(rows, schema=SCHEMA)
    frame.write_parquet(tmp_path / "in.parquet")
    found = scored(models(name), tmp_path / "in.parquet", tmp_path / "out.parquet", bad_rows="null")
    names = load(models(name), None).signature.names
    asked = [as_json({column: row[column] for column in names}) for row in frame.rows(named=True)]
    accepted = []
    for number, (row, refused, prediction) in enumerate(zip(asked, found["refused"], found["prediction"], strict=True)):
        said = servers(name).post("/predict", row)
        if said.status == 200 and refused is None:
            accepted.append(number)
            if name != "strings":  # a matrix product of one row may round otherwise than one of many
                assert said.json["predictions"] == [prediction]
        elif said.status == 400:
            assert said.error == f"{as_null(refused)} at row 0"
        else:
            assert refused is not None
    if accepted:
        # a file of these alone: a row whose answer was no finite number has been in the model's matrix before
        frame[accepted].write_parquet(tmp_path / "accepted.parquet")
        again = scored(models(name), tmp_path / "accepted.parquet", tmp_path / "again.parquet")
        together = servers(name).post("/predict", {"instances": [asked[number] for number in accepted]})
        assert together.json["predictions"] == again["prediction"].to_list()


JSON = (
    st.none()
    | st.booleans()
    | st.integers(0, 23)
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([3.0, 1e39, -0.0, 1e308, "A", "1", []])
)
GOOD = {"wait": 1.5, "wind": 2, "exact": -0.1, "hour": 7, "stops": 1.0, "carrier": "B", "more": "a"}
OBJECTS = st.builds(
    lambda odd, gone: {name: value for name, value in (GOOD | odd).items() if name not in gone},
    st.dictionaries(st.sampled_from([*GOOD][:-1]), JSON, max_size=2),
    st.frozensets(st.sampled_from([*GOOD]), max_size=1),
)
NO_ROWS = ['{"wait": NaN}', '{"wait": 1e400}', '{"wait": 1', "[1]", "7", '"\\ud800"']


@pytest.mark.parametrize("name", ["boosting", "strings", "native"])
@settings(
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=st.lists(OBJECTS | st.sampled_from(NO_ROWS), min_size=1, max_size=8))
def test_json_lines_get_the_answers_of_requests(name, rows, models, servers, tmp_path):
    """Each line is what /predict takes: the same answer, or the same words."""
    names = {
        "more",
        *load(models(name), None).signature.names,
    }  # what else there is a server has to journal, and judges
    lines = [
        row if isinstance(row, str) else json.dumps({key: value for key, value in row.items() if key in names})
        for row in rows
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    found = scored(models(name), tmp_path / "in.jsonl", tmp_path / "out.parquet", bad_rows="null", keep=[])
    for line, refused, prediction in zip(lines, found["refused"], found["prediction"], strict=True):
        said = servers(name).request("POST", "/predict", body=line.encode())
        if said.status == 200:
            assert refused is None, line
            if name != "strings":  # as above
                assert said.json["predictions"] == [prediction]
        elif said.status == 400 and line not in NO_ROWS:
            assert said.error.removesuffix(" at row 0") == refused
        elif said.status == 400:
            assert refused.startswith(("it is not valid JSON", "expected an object"))
        else:
            assert refused == "the model gave no finite number"


@pytest.mark.parametrize("name", ["boosting", "strings"])
@given(rows=ROWS)
def test_the_rules_for_columns_and_those_for_rows_agree(name, rows, models):
    signature = load(models(name), None).signature
    frame = pl.DataFrame(rows, schema=SCHEMA)
    rules, checks = Rules(signature), Checks(signature.inputs)
    judged = rules.judge(frame.to_arrow(), texts=False)
    for number, row in enumerate(frame.rows(named=True)):
        asked = {column: [row[column]] for column in signature.names}
        if judged.refused[number]:
            with pytest.raises(InvalidInput) as problem:
                checks.check(asked, 1)
            assert str(problem.value) == f"{rules.problem(judged, number)} at row 0"
        else:
            checks.check(asked, 1)


@pytest.mark.parametrize("name", ["boosting", "strings", "native"])
@pytest.mark.parametrize(("form", "write"), [("csv", pl.DataFrame.write_csv), ("jsonl", pl.DataFrame.write_ndjson)])
def test_a_file_of_text_gets_the_answers_of_a_parquet_file(name, form, write, models, frame, tmp_path):
    frame.write_parquet(tmp_path / "in.parquet")
    write(frame, tmp_path / f"in.{form}")
    one = scored(models(name), tmp_path / "in.parquet", tmp_path / "one.parquet")
    other = scored(models(name), tmp_path / f"in.{form}", tmp_path / "other.parquet")
    assert other["prediction"].to_list() == one["prediction"].to_list()


def test_the_size_of_a_piece_changes_nothing(models, frame, tmp_path, monkeypatch):
    frame.write_parquet(tmp_path / "in.parquet")
    whole = scored(models("boosting"), tmp_path / "in.parquet", tmp_path / "whole.parquet")
    monkeypatch.setattr("trueline.scoring.inputs.PIECE_ROWS", 7)
    assert scored(models("boosting"), tmp_path / "in.parquet", tmp_path / "parts.parquet").equals(whole)


def test_the_size_of_a_piece_of_json_lines_changes_nothing(models, frame, tmp_path, monkeypatch):
    rows = frame.rows(named=True)
    rows[0] |= {"seat": 7, "tags": None}
    rows[20] |= {"seat": 7.5, "tags": "a"}
    rows[40] |= {"late": {"by": [1]}, "tags": 3}
    del rows[9]["flight"]
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n\n" for row in rows))
    whole = scored(models("boosting"), tmp_path / "in.jsonl", tmp_path / "whole.parquet")
    assert [dtype for name, dtype in whole.schema.items() if name in ("seat", "tags", "late")] == [
        pl.Float64,
        pl.String,
        pl.String,
    ]
    assert whole["late"].drop_nulls().to_list() == ['{"by":[1]}']
    monkeypatch.setattr("trueline.scoring.lines.PIECE_ROWS", 7)
    monkeypatch.setattr("trueline.scoring.lines.PIECE_BYTES", 301)
    assert scored(models("boosting"), tmp_path / "in.jsonl", tmp_path / "parts.parquet").equals(whole)


@pytest.mark.parametrize(
    ("dtype", "column"),
    [(pl.Float64, "hour"), (pl.UInt8, "hour"), (pl.Float64, "wait"), (pl.Int16, "wait"), (pl.Categorical, "carrier")],
)
def test_a_value_counts_not_the_type_it_is_stored_in(dtype, column, models, frame, tmp_path):
    name = "strings"
    frame = frame.with_columns(pl.col("wait").round(0))
    frame.write_parquet(tmp_path / "in.parquet")
    frame.with_columns(pl.col(column).cast(dtype)).write_parquet(tmp_path / "other.parquet")
    one = scored(models(name), tmp_path / "in.parquet", tmp_path / "one.parquet")
    other = scored(models(name), tmp_path / "other.parquet", tmp_path / "two.parquet")
    assert other["prediction"].to_list() == one["prediction"].to_list()
