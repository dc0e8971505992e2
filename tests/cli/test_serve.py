"""`trueline serve` before anything starts: which model, which state, and what is wrong with it. It serves in test_machine.py."""

import json
import socket
from contextlib import suppress

import pytest

from trueline import routefile
from trueline.cli.serve import _one_model
from trueline.errors import InvalidInput, PackagingFailed
from trueline.packaging import manifest
from trueline.settings import StateFolder


@pytest.fixture
def base(tmp_path):
    return StateFolder(tmp_path / ".trueline")


def packaged(folder, project="fares", weights="1", kind="onnx"):
    """As much of a packaged model as the command looks at."""
    folder.mkdir(parents=True, exist_ok=True)
    page = {
        "format": manifest.FORMAT,
        "kind": kind,
        "layout": "matrix",
        "precision": "float32",
        "signature": {"inputs": [{"name": "x", "kind": "float32"}], "output": "y", "task": "regression"},
        "parity": {"worst": 0.0, "rows": 1, "tolerance": 1e-5, "executor": "onnx", "tried": [], "skipped": []},
        "trusted": [],
        "meta": {"project": project} if project else {},
    }
    (folder / manifest.NAME).write_text(json.dumps(page))
    (folder / "model.onnx").write_text(weights)
    return folder


def one_model(*arguments, **options):
    """What a server would be started on, once it has loaded the model."""
    one = _one_model(*arguments, **options)
    with one.routed():
        return one.state


def served(state):
    table = routefile.read(state.routes)
    return table.model, table.epoch, table.champion.version


def fails_to_load(one):
    """What a server was to serve, had the model been one."""
    with suppress(PackagingFailed), one.routed():
        tried = served(one.state)
        raise PackagingFailed("it cannot be loaded")
    return tried


def test_a_folder_is_served_under_its_projects_name_and_stays_the_version_it_is(base, tmp_path):
    folder = packaged(tmp_path / "model")
    for _ in range(2):
        state = one_model(base, str(folder), None)
        assert state.root == base.root / "served" / "fares"
        assert served(state) == ("fares", 1, 1)


def test_other_content_is_the_next_version_and_the_same_content_elsewhere_is_not(base, tmp_path):
    folder = packaged(tmp_path / "model")
    one_model(base, str(folder), None)
    packaged(folder, weights="2")
    assert served(one_model(base, str(folder), None)) == ("fares", 2, 2)
    moved = folder.rename(tmp_path / "moved")
    assert served(one_model(base, str(moved), None)) == ("fares", 3, 2)


def test_a_run_of_the_project_is_named_as_mlflow_names_it(base):
    packaged(base.run("run-7") / "model")
    for name in ("runs:/run-7", "runs:/run-7/model"):
        state = one_model(base, name, None)
        assert routefile.read(state.routes).champion.path == str(base.run("run-7") / "model")


def test_a_name_is_taken_from_the_option_then_the_project_then_the_folder(base, tmp_path):
    folder = packaged(tmp_path / "tickets", project=None)
    assert served(one_model(base, str(folder), None))[0] == "tickets"
    assert served(one_model(base, str(folder), "taxis"))[0] == "taxis"
    with pytest.raises(InvalidInput, match=r"a model cannot be called '\.\./x'"):
        _one_model(base, str(folder), "../x")


def test_a_model_that_is_not_there_is_one_sentence(base):
    with pytest.raises(
        InvalidInput, match=r"there is no model folder .+/run-8/model; name one that `trueline run` has made"
    ):
        _one_model(base, "runs:/run-8", None)
    with pytest.raises(InvalidInput, match=r"--model models:/tips/3 is not known here; name a folder, or runs:/RUN"):
        _one_model(base, "models:/tips/3", None)


def test_a_pickle_from_elsewhere_is_run_only_where_somebody_says_so(base, tmp_path):
    folder = packaged(tmp_path / "found", kind="python")
    with pytest.raises(PackagingFailed, match=r"found holds a pickled Python object, .+ add --allow-pickle"):
        _one_model(base, str(folder), None)
    assert served(one_model(base, str(folder), None, allow_pickle=True)) == ("fares", 1, 1)
    packaged(base.run("run-7") / "model", project="own", kind="python")
    assert served(one_model(base, "runs:/run-7", None)) == ("own", 1, 1)


def test_a_model_that_cannot_be_loaded_ends_the_command(trueline, base, tmp_path):
    packaged(tmp_path / "tips")  # whose ONNX file is none
    said = trueline("serve", "-m", tmp_path / "tips", "--port", 0, "--state", base.root)
    assert said.code == 1
    assert "ONNX Runtime cannot load" in said.err
    assert f"trueline: the model in {tmp_path / 'tips'} cannot be loaded, and there is no other to serve" in said.err
    assert not StateFolder(base.root / "served" / "fares").routes.exists(), "it took a version number"


def test_a_model_that_cannot_be_loaded_takes_no_version_number(base, tmp_path):
    folder = packaged(tmp_path / "model")
    state = one_model(base, str(folder), None)
    packaged(folder, weights="broken")
    assert fails_to_load(_one_model(base, str(folder), None)) == ("fares", 2, 2)
    assert served(state) == ("fares", 3, 1)
    packaged(folder, weights="mended")
    assert served(one_model(base, str(folder), None)) == ("fares", 4, 2)


def test_a_server_that_cannot_start_takes_no_version_number(trueline, base, tmp_path):
    folder = packaged(tmp_path / "model")
    state = one_model(base, str(folder), None)
    packaged(folder, weights="2")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = trueline("serve", "-m", folder, "--port", port, "--state", base.root)
    assert said.code != 0
    assert str(port) in said.err
    assert served(state) == ("fares", 1, 1)


def test_one_port_is_not_for_two_protocols(trueline, base, tmp_path):
    packaged(tmp_path / "tips")
    said = trueline("serve", "-m", tmp_path / "tips", "--port", 17999, "--grpc-port", 17999, "--state", base.root)
    assert (said.code, said.err) == (
        2,
        "trueline: port 17999 cannot be HTTP's and gRPC's at once; choose another --grpc-port\n",
    )


def test_a_folder_that_is_no_model_is_one_sentence(trueline, tmp_path):
    said = trueline("serve", "-m", tmp_path)
    assert said.code == 1
    assert said.err.startswith(f"trueline: {tmp_path} is not a packaged model: it has no trueline.json")
    assert "Traceback" not in said.err
