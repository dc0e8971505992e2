"""Objects that only Python can keep: packaged with their code, proved, and run in a process and environment of their own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings

import numpy as np
import polars as pl
import pytest
import yaml

from real import need
from trueline.errors import PackagingFailed
from trueline.packaging import manifest, python_environment, python_worker
from trueline.packaging.executors import load
from trueline.packaging.python_model import Code
from trueline.serving.pipe import Broken, Inbox, Ready, Refused, Values, Work, frame
from trueline.storage import trees

OWN = """
import numpy as np
import polars as pl
from own_words import WORDS


class Own:
    columns = ("distance", "carrier", "wind")

    def __init__(self, factor):
        self.factor = factor

    def predict(self, frame):
        words = np.array([WORDS.get(word, 0.0) for word in frame["carrier"]])
        return frame["distance"] * self.factor + words + frame["wind"].fill_null(7)


class Sure:
    def predict_proba(self, frame):
        p = 1 / (1 + np.exp(-(frame["distance"].to_numpy() - 100) / 30))
        return np.column_stack([1 - p, p])

    def predict(self, frame):
        raise AssertionError("a classifier is asked for probabilities")


def function(frame):
    return frame["distance"] * 2


def killer(frame):
    import os, signal
    if (frame["distance"] == 13).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (frame["distance"] == 14).any():
        raise ValueError("I will not")
    return frame["distance"]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "own_model.py").write_text(OWN)
    (folder / "own_words.py").write_text("WORDS = {'A': 1.5, 'B': 2.5}\n")
    monkeypatch.syspath_prepend(str(folder))
    for name in ("own_model", "own_words"):
        sys.modules.pop(name, None)
    yield importlib.import_module("own_model")
    for name in ("own_model", "own_words"):
        sys.modules.pop(name, None)


@pytest.fixture
def code(tmp_path):
    return Code(tmp_path / "project", ("own_model.py", "own_words.py"))


def row(**values):
    given = {"distance": 10.0, "wait": 1.0, "hour": 3, "exact": 0.5, "wind": None, "stops": 1}
    given |= {"carrier": "A", "gate": None, "night": True} | values
    return {name: [value] for name, value in given.items()}


def test_an_object_of_the_project_is_kept_with_its_code_and_answers_from_its_own_process(pack, project, code, tmp_path):
    packaged = pack(project.Own(2.0), code=code)
    assert packaged.kind == "python"
    assert packaged.parity.worst == 0.0
    assert packaged.signature.names == ("distance", "carrier", "wind")
    assert (packaged.folder / "code" / "own_words.py").is_file()
    (tmp_path / "project" / "own_words.py").write_text("WORDS = {}\n")  # the version keeps what it was trained with
    executor = load(packaged.folder, packaged.digest)
    assert executor.predict(row()).tolist() == [28.5]
    assert not executor.in_process


def test_a_function_gets_every_feature(pack, project, code):
    packaged = pack(project.function, code=code)
    assert load(packaged.folder, packaged.digest).predict(row(distance=4.0)).tolist() == [8.0]
    assert "scheduled" not in packaged.signature.names


def test_a_closure_is_kept_by_cloudpickle(pack):
    factor = 3.0
    packaged = pack(lambda rows: rows["distance"].to_numpy().reshape(-1, 1) * factor, code=Code())
    assert load(packaged.folder, packaged.digest).predict(row(distance=4.0)).tolist() == [12.0]
    assert "cloudpickle==" in (packaged.folder / "requirements.lock").read_text()


def test_a_classifier_is_asked_for_its_probability(pack, project, code):
    packaged = pack(project.Sure(), task="classification", code=code)
    assert load(packaged.folder, packaged.digest).predict(row(distance=100.0)).tolist() == [0.5]


def test_a_classification_needs_probabilities(pack, project, code):
    with pytest.raises(PackagingFailed, match=r"answers .* where a classification needs the probability .* sigmoid"):
        pack(project.function, task="classification", code=code)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda frame: frame["distance"][:3], r"answered \(3,\) for 16 rows, expected \(16,\)"),
        (lambda frame: frame["nope"], "ColumnNotFoundError"),
        (lambda frame: np.full(len(frame), np.nan), "NaN or infinity on held-out rows"),
        (lambda frame, _out=sys.stdout: frame["distance"], "cannot be pickled .*leave open files"),
    ],
)
def test_what_cannot_be_a_model_is_told(pack, model, says):
    with pytest.raises(PackagingFailed, match=says):
        pack(model, code=Code())


def test_columns_must_be_features(pack, project, code):
    model = project.Own(1.0)
    model.columns = ("distance", "minutes")
    with pytest.raises(PackagingFailed, match="fitted on the target 'minutes' itself"):
        pack(model, code=code)
    model.columns = "distance"
    with pytest.raises(PackagingFailed, match="must be the features' names"):
        pack(model, code=code)


def test_code_that_the_training_does_not_reach_is_missed_at_the_proof(pack, project, tmp_path):
    with pytest.raises(PackagingFailed, match="No module named 'own_words'"):
        pack(project.Own(1.0), code=Code(tmp_path / "project", ("own_model.py",)))


def test_what_the_object_does_to_its_process_stays_there(pack, project, code):
    packaged = pack(project.killer, code=code)
    executor = load(packaged.folder, packaged.digest)
    with pytest.raises(ValueError, match="ValueError: I will not"):
        executor.predict(row(distance=14.0))
    assert executor.predict(row()).tolist() == [10.0]
    with pytest.raises(PackagingFailed, match="process died"):
        executor.predict(row(distance=13.0))


def test_a_changed_folder_is_not_unpickled(pack, project, code):
    packaged = pack(project.function, code=code)
    (packaged.folder / "code" / "own_words.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(PackagingFailed, match="not the one that was registered"):
        load(packaged.folder, packaged.digest)
    with pytest.raises(ValueError, match="digest"):
        raise ValueError(started(packaged.folder, packaged.digest)[0].error)


def started(folder, digest, *work):
    """What the worker's own process says, as the server's end of the pipe reads it."""
    import socket
    import subprocess

    ours, theirs = socket.socketpair()
    command = python_environment.command(folder, digest)
    process = subprocess.Popen(command(theirs.fileno()), pass_fds=(theirs.fileno(),))
    theirs.close()
    inbox, said = Inbox(), []
    with ours:
        for one in work:
            ours.sendall(frame(one))
        while len(said) < 1 + len(work) and (data := ours.recv(65536)):
            said += inbox.feed(data)
    process.wait(20)
    return said


def test_the_worker_speaks_the_server_s_pipe(pack, project, code):
    packaged = pack(project.killer, code=code)
    columns = row(distance=5.0)
    said = started(packaged.folder, packaged.digest, Work(1, 1, columns), Work(2, 1, row(distance=14.0)))
    assert [type(one) for one in said] == [Ready, Values, Refused]
    assert np.frombuffer(said[1].data).tolist() == [5.0]
    assert (said[2].number, said[2].outcome, said[2].error) == (2, "failed", "ValueError: I will not")
    (broken,) = started(packaged.folder, "sha256:0")
    assert isinstance(broken, Broken)


def test_the_worker_digests_a_folder_as_everybody_does(pack, project, code):
    packaged = pack(project.function, code=code)
    assert python_worker.content_digest(packaged.folder) == packaged.digest == trees.digest(packaged.folder)


def test_the_lock_has_what_the_code_imports_and_all_that_needs(pack, project, code, tmp_path):
    (tmp_path / "project" / "own_model.py").write_text("import sklearn\n" + OWN)
    packaged = pack(project.Own(1.0), code=code)
    text = (packaged.folder / "requirements.lock").read_text()
    names = {line.partition("==")[0] for line in text.splitlines()}
    assert {"numpy", "polars", "msgspec", "scikit-learn", "scipy", "joblib"} <= names
    assert not names & {"mlflow-skinny", "sqlalchemy", "trueline"}
    assert text.startswith(f"# python 3.{sys.version_info.minor}\n")


def test_an_environment_that_cannot_be_built_is_told(pack, project, code, monkeypatch):
    packaged = pack(project.function, code=code)
    lock = packaged.folder / "requirements.lock"
    lock.write_text(lock.read_text() + "no-such-thing-at-all==9.9\n")
    manifest.write(packaged.folder, manifest.read(packaged.folder))  # as if it had been packaged so
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(packaged.folder.parent / "cache"))
    monkeypatch.setattr(python_environment, "_run", broken_pip)
    with pytest.raises(
        PackagingFailed, match=r"cannot be built \(ERROR: No matching.*differ: no-such-thing.*PIP_FIND_LINKS"
    ):
        load(packaged.folder, trees.digest(packaged.folder))


def broken_pip(command):
    if "pip" in command:
        import subprocess

        raise subprocess.CalledProcessError(
            1, command, stderr="ERROR: No matching distribution found for no-such-thing"
        )


def test_mlflow_has_a_loader_beside_the_model(pack, project, code):
    packaged = pack(project.Own(2.0), code=code)
    page = yaml.safe_load((packaged.folder / "MLmodel").read_text())["flavors"]["python_function"]
    assert (page["loader_module"], page["code"], page["data"]) == ("trueline_python_model", "code", "model.pkl")


@pytest.mark.real
def test_mlflow_reads_the_folder_and_answers_alike(pack, project, code, rows):
    need(
        importlib.util.find_spec("mlflow.models") and importlib.util.find_spec("pandas"), "MLflow (pip install mlflow)"
    )
    packaged = pack(project.Own(2.0), code=code)
    few = rows.frame.head(5).select(packaged.signature.names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        said = mlflow.pyfunc.load_model(str(packaged.folder)).predict(
            few.with_columns(wind=pl.lit(1.0, pl.Float32)).to_pandas()
        )
    ours = load(packaged.folder, packaged.digest).predict({**few.to_dict(as_series=False), "wind": [1.0] * 5})
    assert said.tolist() == ours.tolist()
    assert trees.digest(packaged.folder) == packaged.digest  # nothing was compiled into it
