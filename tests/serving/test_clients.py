"""Clients that others wrote, against a real server: Triton's, MLServer's, KServe's, MLflow's."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from serving_world import SIGNATURE, Fake, route, table

from real import need
from trueline import catalogue
from trueline.domain.contracts import Column, Kind
from trueline.domain.routes import Arm

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-clients" / "bin" / "python"
SAID = [1.5, 2.5, -3.0]

pytestmark = pytest.mark.real


@pytest.fixture
def server(serve):
    """Versions 1 and 2 routed, 3 registered."""
    signature = replace(SIGNATURE, inputs=(*SIGNATURE.inputs, Column("plan", Kind.string, categories=("a", "b"))))
    running = serve(
        {version: Fake(version, signature=signature) for version in (1, 2, 3)},
        table(routes=(route(1), route(2, Arm.shadow, 0))),
    )
    state = running.config.state
    (state.run("r3") / "model").mkdir(parents=True)
    catalogue.write(state.catalogue, [catalogue.Entry(3, "runs/r3/model", "d", "approved")])
    return running


def run(python, *arguments):
    done = subprocess.run([str(python), *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def ask(server, client):
    need(PYTHON.exists(), "the environment of other projects' clients (`make clients`)")
    return json.loads(run(PYTHON, HERE / "clients_open_inference.py", client, server.url, "m").splitlines()[-1])


def test_triton_http_client_in_json_binary_and_compressed(server):
    told = ask(server, "triton")
    index = [(one["version"], one["state"]) for one in told.pop("index")]
    assert index == [("3", "UNAVAILABLE"), ("2", "READY"), ("1", "READY")]
    assert told == {
        "live": [True, True, True],
        "not ready": False,
        "extensions": ["binary_tensor_data", "model_repository"],
        "inputs": ["x", "n", "plan"],
        "binary True": ["7", SAID],
        "binary False": ["7", SAID],
        "no outputs named": SAID,
        "version": "2",
        "gzip": SAID,
        "deflate": SAID,
        "refused": ["400", "inputs 'n', 'plan' are missing"],
        "loaded": True,
        "unloaded": True,
    }


def test_mlserver_codecs_and_types(server):
    assert ask(server, "mlserver") == {
        "pandas": SAID,
        "pandas as text": SAID,
        "columns": SAID,
        "server": "trueline",
        "inputs": ["x", "n", "plan"],
        "index": ["UNAVAILABLE", "READY", "READY"],
    }


def test_mlserver_infer_sends_a_file_of_requests(server, tmp_path):
    need(PYTHON.exists(), "the environment of other projects' clients (`make clients`)")
    asked, told = tmp_path / "asked.json", tmp_path / "told.json"
    tensors = [("x", "FP64", 2.5), ("n", "INT64", 1), ("plan", "BYTES", "a")]
    request = {"inputs": [{"name": n, "shape": [1, 1], "datatype": t, "data": [v]} for n, t, v in tensors]}
    asked.write_text(f"{json.dumps(request)}\n" * 3)
    address = server.url.removeprefix("http://")
    run(PYTHON.with_name("mlserver"), "infer", "-u", address, "-m", "m", "-i", asked, "-o", told)
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert [one["outputs"][0]["data"] for one in lines] == [[2.5]] * 3


def test_kserve_rest_client_in_both_protocols(server):
    assert ask(server, "kserve") == {
        "v2 live": [True, True, True],
        "v2 binary True": ["9", SAID],
        "v2 binary False": ["9", SAID],
        "v1 live": [True, True],
        "v1": SAID,
        "v1 by place": SAID,
    }


def test_mlflow_scoring_client_in_every_form(server):
    need(
        importlib.util.find_spec("mlflow.pyfunc") and importlib.util.find_spec("pandas"),
        "the whole of MLflow (`pip install mlflow`)",
    )
    told = json.loads(run(sys.executable, HERE / "clients_mlflow.py", server.url).splitlines()[-1])
    assert told.pop("version") == server.get("/version").body.decode()
    status, refusal = told.pop("refused")
    assert (status, refusal["error_code"]) == (400, "BAD_REQUEST")
    assert "'n'" in refusal["message"]
    assert told == dict.fromkeys(["frame", "with params", "columns", "matrix", "records", "instances", "csv"], SAID)
