"""`init` writes a project that can be read and a model that trains."""

import importlib.util
import json
import os
import pty
import subprocess
import sys

import polars as pl
import pytest
import yaml

from trueline import projectfile
from trueline.projectfile.kinds import scalar


@pytest.fixture
def table(tmp_path):
    frame = pl.DataFrame(
        {
            "id": range(60),
            "when": [f"2026-01-{1 + n % 28:02d}" for n in range(60)],
            "town": ["Bern", "Chur", None] * 20,
            "area": [float(n % 7) if n % 11 else None for n in range(60)],
            "price": [100.0 + 3 * (n % 7) for n in range(60)],
            "sold": [n % 2 for n in range(60)],
        }
    )
    frame.write_csv(tmp_path / "homes.csv")
    frame.write_parquet(tmp_path / "homes.parquet")
    return frame


def fitted(path, frame):
    spec = importlib.util.spec_from_file_location("starter_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fit(frame, max_iter=5)


@pytest.mark.parametrize("source", ["homes.csv", "homes.parquet"])
def test_four_facts_become_a_project_file(source, trueline, table, tmp_path):
    said = trueline("init", "--source", source, "--target", "price", "--time", "when", "--entity", "id", "--json")
    assert said.code == 0
    assert said.json["columns"] == table.columns
    written = yaml.safe_load((tmp_path / "trueline.yaml").read_text())
    assert written == {
        "version": 1,
        "project": tmp_path.name.lower().replace("_", "-"),
        "data": {"source": source, "target": "price", "time": "when", "entity": "id"},
        "train": "model.py:fit",
    }


@pytest.mark.parametrize(
    ("target", "method"), [("price", "predict"), ("sold", "predict_proba"), ("town", "predict_proba")]
)
def test_the_first_model_trains_on_the_data(target, method, trueline, table, tmp_path):
    assert trueline("init", "--source", "homes.csv", "--target", target, "--time", "when", "--entity", "id").code == 0
    model = fitted(tmp_path / "model.py", table.with_columns(_origin=pl.lit("source")))
    assert not {"id", "when", "_origin", target} & set(model.feature_names_in_)
    assert len(getattr(model, method)(table.select(model.feature_names_in_.tolist()))) == 60


def test_nothing_is_ever_overwritten(trueline, table, tmp_path):
    (tmp_path / "model.py").write_text("mine")
    assert trueline("init", "--source", "homes.csv", "--target", "price").code == 0
    assert (tmp_path / "model.py").read_text() == "mine"
    before = (tmp_path / "trueline.yaml").read_text()
    said = trueline("init", "--source", "homes.csv", "--target", "sold")
    assert said.code == 1
    assert "stays as it is" in said.err
    assert (tmp_path / "trueline.yaml").read_text() == before
    assert len(table) == 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "homes.csv", "--target", "prize"], "no column 'prize' in homes.csv; it has id, when, town"),
        (["--source", "homes.csv", "--target", "price", "--time", "then"], "--time: there is no column 'then'"),
        (["--source", "homes.csv", "--target", "price", "--time", "town"], "--time: town holds no dates"),
        (["--source", "homes.csv", "--target", "when"], "different values that are no numbers; a regression needs"),
        (["--source", "none.csv", "--target", "price"], "there is no file none.csv"),
        (["--source", "notes.txt", "--target", "price"], "neither .csv nor .parquet"),
        (["--source", "broken.parquet", "--target", "price"], "broken.parquet cannot be read: parquet"),
        (["--source", "empty.csv", "--target", "a"], "has no rows"),
        (["--source", "homes.csv", "--target", "price", "--train", "model"], "file.py:function"),
    ],
)
def test_what_cannot_be_gets_one_sentence_and_nothing_is_written(arguments, said, trueline, table, tmp_path):
    (tmp_path / "notes.txt").write_text("a,b\n1,2\n")
    (tmp_path / "broken.parquet").write_text("not parquet")
    (tmp_path / "empty.csv").write_text("a,b\n")
    found = trueline("init", *arguments)
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err
    assert not (tmp_path / "trueline.yaml").exists()
    assert len(table) == 60


@pytest.mark.parametrize(
    "text", ["a", "no", "1", "a b", "a: b", "#x", "x#y", "-", "ü", "a'b", 'a"b', "null", "*", "3.5", "a:"]
)
def test_a_scalar_reads_back_as_the_text_it_was(text):
    assert yaml.safe_load(f"key: {scalar(text)}") == {"key": text}


def said_of(path):
    """Each line of the written file with the comment behind it."""
    lines = [line.partition("  # ") for line in path.read_text().splitlines()]
    return {line.strip(): why for line, _, why in lines}


@pytest.fixture
def churn(tmp_path):
    """A folder as people have it: a table, a training file of their own."""
    rows = [
        {"customer_id": n // 2, "day": f"2026-01-{1 + n % 28:02d}", "use": n / 7, "churned": n % 2} for n in range(60)
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "churn.csv")
    return tmp_path


def test_the_four_facts_are_found_and_each_says_why(trueline, churn):
    (churn / "train.py").write_text("def fit(frame, *, depth=3):\n    return 1\n")
    assert trueline("init").code == 0
    expected = {
        "source: churn.csv": "the only table here",
        "target: churned": "its name is like a target's; two different values, so a classification",
        "time: day": "the only column of dates",
        "entity: customer_id": "named like an identifier, with 30 different values",
        "train: train.py:fit": "the only function here that trains (line 1)",
    }
    assert said_of(churn / "trueline.yaml").items() >= expected.items()
    assert not (churn / "model.py").exists()
    assert projectfile.load(churn / "trueline.yaml").data.target == "churned"


def test_what_is_said_wins_over_every_guess(trueline, churn):
    said = trueline("init", "--target", "use", "--entity", "churned", "--train", "own.py:fit", "--json")
    assert said.code == 0
    assert said.json["guesses"]["target"] == {"value": "use", "why": ""}
    project = projectfile.load(churn / "trueline.yaml")
    assert (project.data.target, project.data.entity, project.train) == ("use", "churned", "own.py:fit")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is no CSV or Parquet file here or in data/; put one here, or name it with --source"),
        ({"a.csv": "x,y\n1,2\n", "b.csv": "x,y\n1,2\n"}, "a.csv, b.csv; choose with --source"),
        ({"a.csv": "b,c\n1,2\n3,4\n5,9\n"}, "several columns could be the one to predict: b, c; choose with --target"),
        ({"a.csv": "b\nx\ny\nz\n"}, "name the column to predict with --target"),
    ],
)
def test_what_cannot_be_known_is_asked_for_and_never_guessed(files, said, trueline, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = trueline("init")
    assert found.code == 2
    assert said in found.err
    assert not (tmp_path / "trueline.yaml").exists()


def test_at_a_terminal_it_asks(tmp_path):
    (tmp_path / "a.csv").write_text("b,c\n1,2\n3,4\n5,9\n")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trueline", "init", "-f", str(tmp_path / "trueline.yaml")]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
        os.write(ours, b"2\n")
        _, said = asking.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert b"  2  c" in said
    assert projectfile.load(tmp_path / "trueline.yaml").data.target == "c"


def test_a_script_that_trains_where_it_stands_is_told_what_to_become(trueline, churn):
    (churn / "train.py").write_text("model = Ridge()\nmodel.fit(x, y)\n")
    said = trueline("init")
    assert "train.py:2 trains where it stands (model.fit); put that into a function" in said.err
    assert (churn / "model.py").exists()
    assert "train: model.py:fit" in said_of(churn / "trueline.yaml")


def test_an_mlflow_model_says_the_target_and_the_features(trueline, churn):
    folder = churn / "mlruns" / "churn"
    folder.mkdir(parents=True)
    columns = json.dumps([{"type": "double", "name": "use"}])
    signature = {"inputs": columns, "outputs": json.dumps([{"type": "long"}])}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": {}}, "signature": signature}))
    (folder / "requirements.txt").write_text("scikit-learn==1.7.2\n")
    said = trueline("init")
    assert said.code == 0
    assert "the MLflow model in mlruns/churn (sklearn; scikit-learn==1.7.2) says which columns are features" in said.err
    text = (churn / "trueline.yaml").read_text()
    assert "the one column that the MLflow model in mlruns/churn does not take" in text
    model = fitted(churn / "model.py", pl.read_csv(churn / "churn.csv"))
    assert model.feature_names_in_.tolist() == ["use"]


def test_without_dates_the_file_says_so_and_where_to_name_them(trueline, tmp_path):
    (tmp_path / "a.csv").write_text("b,y\n1,2\n3,4\n5,9\n")
    assert trueline("init").code == 0
    assert "  # time: COLUMN    # no column of dates was found" in (tmp_path / "trueline.yaml").read_text()
    assert projectfile.load(tmp_path / "trueline.yaml").data.time is None
