"""`init` writes a project that can be read and a model that trains."""

import importlib.util

import polars as pl
import pytest
import yaml

from trueline.cli.starter import scalar


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
        (["--source", "none.csv", "--target", "price"], "there is no file none.csv"),
        (["--source", "notes.txt", "--target", "price"], "neither .csv nor .parquet"),
        (["--source", "broken.parquet", "--target", "price"], "cannot be read as parquet"),
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
