"""gRPC clients that others wrote, against a real server: Triton's and KServe's, and the stubs inside them."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from clients_grpc import look
from serving_world import SIGNATURE, Fake, Running, route, table

from real import need
from trueline import catalogue
from trueline.domain.contracts import Column, Kind
from trueline.domain.routes import Arm
from trueline.journal.records import PredictionRecord
from trueline.serving.grpc_messages import MESSAGES
from trueline.serving.server import Config
from trueline.settings import StateFolder

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-clients" / "bin" / "python"
SAID = [1.5, 2.5, -3.0]

pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path):
    """Versions 1 and 2 routed, 3 registered, gRPC beside HTTP."""
    signature = replace(SIGNATURE, inputs=(*SIGNATURE.inputs, Column("plan", Kind.string, categories=("a", "b"))))
    state = StateFolder(tmp_path / "state").create()
    models = {version: Fake(version, signature=signature) for version in (1, 2, 3)}
    running = Running(Config(state=state, port=0, grpc_port=0), models)
    running.start()
    assert running.put(table(routes=(route(1), route(2, Arm.shadow, 0))))["ok"]
    (state.run("r3") / "model").mkdir(parents=True)
    catalogue.write(state.catalogue, [catalogue.Entry(3, "runs/r3/model", "d", "approved")])
    yield running
    running.stop()
    shutil.rmtree(state.socket("any").parent, ignore_errors=True)


def ask(*arguments):
    need(PYTHON.exists(), "the environment of other projects' clients (`make clients`)")
    command = [str(PYTHON), str(HERE / "clients_grpc.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_tritons_client(server):
    told = ask("triton", server.server.grpc, "m")
    assert told == {
        "live": [True, True, True],
        "server": "trueline",
        "inputs": [["x", "FP64", [-1, 1]], ["n", "INT64", [-1, 1]], ["plan", "BYTES", [-1, 1]]],
        "answer": ["7", SAID],
        "no outputs named": SAID,
        "version": "2",
        "compressed": SAID,
        "asynchronous": True,
        "refused": [
            ["StatusCode.INVALID_ARGUMENT", told["refused"][0][1]],
            ["StatusCode.NOT_FOUND", "no model 'other' is served here; this server has 'm'"],
            ["StatusCode.NOT_FOUND", "version 99 of 'm' is not loaded here; loaded: 1, 2"],
        ],
        "index": [["3", "UNAVAILABLE"], ["2", "READY"], ["1", "READY"]],
        "loaded": True,
        "unloaded": told["unloaded"],
    }
    assert "'n'" in told["refused"][0][1]
    assert told["unloaded"] in (True, "StatusCode.NOT_FOUND")
    record = next(one for one in server.records(PredictionRecord) if one.unit == "7")
    assert list(record.features["plan"]) == ["a", "b", "ü"]


def test_kserves_client(server):
    assert ask("kserve", server.server.grpc, "m") == {
        "live": [True, True, True],
        "raw True": ["9", "1", SAID],
        "raw False": ["9", "1", SAID],
    }


TRITON, KSERVE = "tritonclient.grpc.service_pb2", "kserve.protocol.grpc.grpc_predict_v2_pb2"
PUBLIC = {  # in the public definition, and in neither of theirs
    f"ModelMetadataResponse.{name}" for name in ("properties", "PropertiesEntry.key", "PropertiesEntry.value")
}
ANSWERS = {f"RepositoryModel{deed}Response" for deed in ("Load", "Unload")}
ONLY_OURS = {
    TRITON: PUBLIC | {f"{one}.{name}" for one in ANSWERS for name in ("model_name", f"is{one[15:-8]}ed")},
    KSERVE: PUBLIC | {"InferParameter.double_param", "InferParameter.uint64_param"},
}


@pytest.mark.parametrize("module", [TRITON, KSERVE])
def test_our_messages_are_those_of_other_projects_stubs(module):
    theirs = ask("stubs", module)
    ours: dict = {}
    for message in MESSAGES.values():
        look(message.DESCRIPTOR, message.DESCRIPTOR.name, ours)
    if module == KSERVE:  # has no index, and the model's name where Triton's requests have the repository's
        asked = (
            "RepositoryIndex",
            "ModelRepositoryParameter",
            "RepositoryModelLoadRequest",
            "RepositoryModelUnloadRequest",
        )
        ours = {name: fields for name, fields in ours.items() if not name.startswith(asked)}
    mine = {f"{name}.{field}": told for name, fields in ours.items() for field, told in fields.items()}
    others = {f"{name}.{field}": told for name, fields in theirs.items() for field, told in fields.items()}
    assert mine.keys() - others.keys() == ONLY_OURS[module]
    assert {name: told for name, told in mine.items() if name in others and others[name] != told} == {}
