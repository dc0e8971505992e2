"""What `trueline init` sees in a folder: it reads code and models, and runs neither."""

import json

import pytest
import yaml

from trueline.cli import looking
from trueline.cli.looking import Function, LoggedModel
from trueline.errors import InvalidData


def code(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("def fit(frame):\n    return 1\n", ["m.py:fit"]),
        ("def train(df, *, depth=3):\n    return 1\n", ["m.py:train"]),
        ("def fit_price(df, depth=3):\n    return 1\n", ["m.py:fit_price"]),
        ("def fit(X, y):\n    return 1\n", []),
        ("def fit(frame, *, depth):\n    return 1\n", []),
        ("def fit(frame):\n    print(1)\n", []),
        ("def fit_axes(figure):\n    return 1\n", []),
        ("class M:\n    def fit(self):\n        return 1\n", []),
        ("import trueline\n@trueline.step\ndef fit(df):\n    return 1\n", []),
        ("from trueline import pipeline\n@pipeline\ndef churn(df):\n    return 1\n", ["m.py:churn"]),
        ("def fit(frame:\n", []),
        ("\0", []),
    ],
)
def test_a_training_function_takes_the_rows_and_returns_something(text, entries, tmp_path):
    code(tmp_path, "m.py", text)
    assert [one.entry for one in looking.functions(tmp_path)[0]] == entries


def test_a_script_is_told_from_a_function_and_nothing_runs(tmp_path):
    code(tmp_path, "train.py", "raise SystemExit('ran')\nmodel = Ridge()\nmodel.fit(x, y)\n")
    code(tmp_path, "src/model.py", "def fit(frame):\n    return frame.fit()\n")
    found, scripts = looking.functions(tmp_path)
    assert found == [Function("src/model.py:fit", 1)]
    assert [(one.path, one.line, one.call) for one in scripts] == [("train.py", 3, "model.fit")]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('TARGET = "price"\n', ["price"]),
        ('y = df["price"]\n', ["price"]),
        ('def fit(df):\n    y = df.pop("price").to_numpy()\n', ["price"]),
        ('y = df["sold"].map({"yes": 1})\ntarget = "price"\n', ["price", "sold"]),
        ("y = make()\ntarget = [1]\ny = df[['a', 'b']]\n", []),
        ("y = (\n", []),
    ],
)
def test_the_column_that_code_predicts_is_read_from_it(text, names, tmp_path):
    code(tmp_path, "m.py", text)
    assert [name for name in looking.named_target(tmp_path, "m.py:fit") if name != "[1]"] == names
    assert looking.named_target(tmp_path, "none.py:fit") == []


def logged(folder, *, outputs=None, inputs=("a", "b"), **more):
    folder.mkdir(parents=True)
    columns = [{"type": "double", "name": name} for name in inputs]
    signature = {"inputs": json.dumps(columns), "outputs": json.dumps(outputs or [{"type": "double"}])}
    flavors = {"python_function": {}, "sklearn": {}}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "signature": signature} | more))
    (folder / "requirements.txt").write_text("scikit-learn==1.7.2\n# why\n\nnumpy\n")


@pytest.mark.parametrize(
    ("outputs", "output", "classifies"),
    [
        ([{"type": "double"}], None, False),
        ([{"type": "long"}], None, None),
        ([{"type": "string", "name": "churned"}], "churned", True),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}], None, False),
        ([{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}], None, None),
        ([{"type": "double"}, {"type": "double"}], None, None),
    ],
)
def test_an_mlflow_model_says_its_columns_its_output_and_its_needs(outputs, output, classifies, tmp_path):
    logged(tmp_path / "ml" / "churn", outputs=outputs)
    needs = ("scikit-learn==1.7.2", "numpy")
    assert looking.logged_models(tmp_path) == [
        LoggedModel("ml/churn", "sklearn", ("a", "b"), output, classifies, needs),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flavors: [",
        "- a",
        "flavors: {}\nsignature: {inputs: '{'}",
        "flavors: {}\nsignature: {outputs: '[\"y\"]'}",
        'flavors: {}\nsignature: {outputs: \'[{"type": "tensor", "tensor-spec": 3}]\'}',
        "flavors: {}\nsignature: {inputs: '" + "[" * 9999 + "'}",
        "[" * 2000,
        "a: 1",
        "flavors: 3",
    ],
)
def test_what_is_no_mlflow_model_is_passed_over(text, tmp_path):
    (tmp_path / "MLmodel").write_text(text)
    assert looking.logged_models(tmp_path) == []


@pytest.mark.filterwarnings("ignore")
def test_a_model_file_that_mlflow_writes_is_read(tmp_path):
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    columns = Schema([ColSpec("double", "a"), ColSpec("string", "b")])
    signature = ModelSignature(columns, Schema([ColSpec("double")]))
    model = Model(signature=signature)
    model.add_flavor("python_function", loader_module="mlflow.sklearn")
    model.add_flavor("sklearn", sklearn_version="1.7.2")
    (tmp_path / "m").mkdir()
    model.save(tmp_path / "m" / "MLmodel")
    assert looking.logged_models(tmp_path) == [LoggedModel("m", "sklearn", ("a", "b"), None, False, ())]


def test_tables_are_looked_for_where_people_keep_them(tmp_path):
    for name in ("a.csv", "data/b.parquet", "data/deep/c.csv", "notes.txt", "input/d.tsv.gz"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert looking.data_files(tmp_path) == ["a.csv", "data/b.parquet", "input/d.tsv.gz"]


def test_of_a_glob_the_first_file_is_looked_at(tmp_path):
    for name, text in (("b.csv", "x\n1\n"), ("a.csv", "y\n1\n")):
        (tmp_path / name).write_text(text)
    assert looking.sample(tmp_path, "*.csv").columns == ["y"]
    assert looking.sample(tmp_path, f"{tmp_path}/b*.csv").columns == ["x"]
    with pytest.raises(InvalidData, match=r"there is no file z\*\.csv"):
        looking.sample(tmp_path, "z*.csv")


def test_a_table_with_a_column_twice_is_refused_as_a_run_would(tmp_path):
    (tmp_path / "a.csv").write_text("x,x\n1,2\n")
    (tmp_path / "b.csv").write_text("x,x_duplicated_0\n1,2\n")
    with pytest.raises(InvalidData, match=r"^the source a\.csv has the column 'x' twice; each column appears once$"):
        looking.sample(tmp_path, "a.csv")
    assert looking.sample(tmp_path, "b.csv").columns == ["x", "x_duplicated_0"]
