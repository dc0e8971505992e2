"""Open Inference over gRPC: the same model, the same words, the same records as over HTTP."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_world import SIGNATURE, Fake, Running, eventually, route, table

from trueline.domain.contracts import Column, Kind
from trueline.domain.routes import Arm
from trueline.errors import Unavailable
from trueline.journal.records import PredictionRecord
from trueline.packaging.signature import REGRESSION, Signature
from trueline.serving import binary
from trueline.serving.grpc_messages import MESSAGES
from trueline.serving.grpc_server import SERVICE
from trueline.serving.limits import Limits
from trueline.serving.server import Config
from trueline.settings import StateFolder

Code = grpc.StatusCode
TEXTS = Signature((Column("x", Kind.float64), Column("t", Kind.string), Column("b", Kind.boolean)), "y", REGRESSION)


class Client:
    def __init__(self, server: Running, token: str | None = None) -> None:
        self.server = server
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        self._channel = grpc.insecure_channel(server.server.grpc)

    def __call__(self, method, message=None, metadata=(), **fields):
        data = message if isinstance(message, bytes) else (message or MESSAGES[f"{method}Request"](**fields))
        ask = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
            response_deserializer=MESSAGES[f"{method}Response"].FromString,
        )
        return ask(data, timeout=20, metadata=[*self._metadata, *metadata])

    def refused(self, *given, **fields):
        with pytest.raises(grpc.RpcError) as caught:
            self(*given, **fields)
        return caught.value.code(), caught.value.details()

    def close(self):
        self._channel.close()


@pytest.fixture
def serve_grpc(tmp_path):
    """Start servers that speak gRPC too; `serve_grpc(models, table, **limits)` gives a client of each."""
    clients: list[Client] = []

    def start(models=None, wanted=None, *, host="127.0.0.1", token=None, **limits) -> Client:
        state = StateFolder(tmp_path / "state").create()
        if token:
            state.token.write_text(token)
        config = Config(state=state, port=0, host=host, grpc_port=0, limits=Limits(**limits))
        running = Running(config, models or {1: Fake(1), 2: Fake(2)})
        running.start()
        clients.append(Client(running))
        assert running.put(wanted or table())["ok"]
        return clients[-1]

    yield start
    for client in clients:
        client.close()
        client.server.stop()
        shutil.rmtree(client.server.config.state.socket("any").parent, ignore_errors=True)


def tensor(request, name, datatype, values, shape=None):
    """Add a tensor with typed contents, or with none when `values` is None."""
    one = request.inputs.add(name=name, datatype=datatype, shape=shape if shape is not None else [len(values), 1])
    field = {"FP64": "fp64", "FP32": "fp32", "INT64": "int64", "INT8": "int", "UINT32": "uint", "BOOL": "bool"}
    if values is not None:
        getattr(one.contents, f"{field.get(datatype, 'bytes')}_contents").extend(values)
    return one


def infer(x=(1.5, 2.5), n=(1, 2), **fields):
    request = MESSAGES["ModelInferRequest"](**{"model_name": "m", **fields})
    tensor(request, "x", "FP64", x)
    tensor(request, "n", "INT64", n)
    return request


def raw(*parts, shapes=((2, 1), (2,)), datatypes=("FP64", "INT64"), names=("x", "n"), **fields):
    request = MESSAGES["ModelInferRequest"](**{"model_name": "m", "raw_input_contents": parts, **fields})
    for name, datatype, shape in zip(names, datatypes, shapes, strict=False):
        tensor(request, name, datatype, None, shape)
    return request


X, N = struct.pack("<2d", 1.5, 2.5), struct.pack("<2q", 1, 2)


def test_typed_contents_are_answered_in_typed_contents_and_the_id_comes_back(serve_grpc):
    client = serve_grpc()
    answer = client("ModelInfer", infer(id="42"))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "42")
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "FP64", [2, 1])
    assert list(output.contents.fp64_contents) == [1.5, 2.5]
    assert not answer.raw_output_contents
    (record,) = client.server.records(PredictionRecord)
    assert answer.parameters["request_id"].string_param == record.request_id
    assert (record.unit, record.rows) == ("42", 2)


def test_raw_contents_are_answered_raw_unless_asked_otherwise(serve_grpc):
    client = serve_grpc()
    answer = client("ModelInfer", raw(X, N))
    assert answer.raw_output_contents == [X]
    assert not answer.outputs[0].HasField("contents")
    request = raw(X, N)
    request.outputs.add(name="y").parameters["binary_data"].bool_param = False
    assert list(client("ModelInfer", request).outputs[0].contents.fp64_contents) == [1.5, 2.5]
    request = infer()
    request.parameters["binary_data_output"].bool_param = True
    assert client("ModelInfer", request).raw_output_contents == [X]


def test_the_same_rows_over_every_protocol_give_the_same_answers_and_records(serve_grpc):
    client = serve_grpc()
    server = client.server
    rows = [{"x": 1.5, "n": 1}, {"x": 2.5, "n": 2}]
    tensors = [
        {"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [1.5, 2.5]},
        {"name": "n", "shape": [2], "datatype": "INT64", "data": [1, 2]},
    ]
    named = {"x-request-id": "same"}
    answers = [
        list(client("ModelInfer", infer(id="same")).outputs[0].contents.fp64_contents),
        list(struct.unpack("<2d", client("ModelInfer", raw(X, N, id="same")).raw_output_contents[0])),
        list(client("ModelInfer", infer(), metadata=list(named.items())).outputs[0].contents.fp64_contents),
        server.post("/predict", {"instances": rows}, named).json["predictions"],
        server.post("/v2/models/m/infer", {"id": "same", "inputs": tensors}).json["outputs"][0]["data"],
        over_binary_rest(server, tensors),
    ]
    assert answers == [[1.5, 2.5]] * 6
    records = server.records(PredictionRecord)
    for one in records:
        assert {name: list(values) for name, values in one.features.items()} == {"x": [1.5, 2.5], "n": [1, 2]}
        assert all(type(value) is int for value in one.features["n"])
    aside = {"request_id": "", "event_us": 0, "received_us": 0, "queue_us": 0, "exec_us": 0, "features": {}}
    assert len({str(_replaced(one, aside)) for one in records}) == 1
    assert len(records) == 6


def _replaced(record, changes):
    return {name: changes.get(name, getattr(record, name)) for name in record.__struct_fields__}


def over_binary_rest(server, tensors):
    inputs = [
        {k: v for k, v in one.items() if k != "data"} | {"parameters": {"binary_data_size": 16}} for one in tensors
    ]
    head = json.dumps({"id": "same", "inputs": inputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    reply = server.post("/v2/models/m/infer", head + X + N, headers)
    return reply.json["outputs"][0]["data"]


def test_a_named_version_answers_itself(serve_grpc):
    client = serve_grpc(wanted=table(routes=(route(1), route(2, Arm.shadow, 0))))
    answer = client("ModelInfer", infer(model_version="2"))
    assert (answer.model_version, list(answer.outputs[0].contents.fp64_contents)) == ("2", [3, 5])
    (record,) = client.server.records(PredictionRecord)
    assert (record.arm, record.version) == ("pinned", 2)


def test_text_and_booleans_come_both_ways(serve_grpc):
    seen = []

    def model(columns):
        import numpy as np

        seen.append({name: list(columns[name]) for name in ("x", "t", "b")})
        return np.array(columns["x"], dtype=float)

    client = serve_grpc({1: Fake(1, model, TEXTS)})
    request = MESSAGES["ModelInferRequest"](model_name="m")
    tensor(request, "x", "FP32", [0.5, 1.5])
    tensor(request, "t", "BYTES", ["é".encode(), b""])
    tensor(request, "b", "BOOL", [True, False])
    client("ModelInfer", request)
    text = binary.pack("BYTES", ["é", ""])
    halves = struct.pack("<2e", 0.5, 1.5)
    shapes = ((2, 1),) * 3
    client(
        "ModelInfer", raw(halves, text, b"\x01\x00", shapes=shapes, datatypes=("FP16", "BYTES", "BOOL"), names="xtb")
    )
    assert seen[-2:] == [{"x": [0.5, 1.5], "t": ["é", ""], "b": [True, False]}] * 2


def contents_too(request):
    request.inputs[0].contents.fp64_contents.extend([1, 2])
    return request


def elsewhere(request):
    request.inputs[1].contents.int_contents.extend([1, 2])
    return request


def small(*values):
    request = infer()
    del request.inputs[1]
    tensor(request, "n", "INT8", values)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (infer(model_name="z"), Code.NOT_FOUND, "no model 'z' is served here; this server has 'm'"),
        (infer(model_version="9"), Code.NOT_FOUND, "version 9 of 'm' is not loaded here; loaded: 1"),
        (infer(model_version="nine"), Code.NOT_FOUND, "no version 'nine': versions are whole numbers"),
        (infer(x=(1.5, float("nan"))), Code.INVALID_ARGUMENT, "input 'x': expected float64, got NaN at row 1"),
        (infer(x=(1.5,)), Code.INVALID_ARGUMENT, "input '"),
        (small(1, 300), Code.INVALID_ARGUMENT, "input 'n': expected INT8, got 300 at row 1"),
        (raw(X), Code.INVALID_ARGUMENT, "raw_input_contents has 1 entries for 2 inputs; send one for each, in order"),
        (raw(X, N[:-1]), Code.INVALID_ARGUMENT, "input 'n': shape [2] of INT64 needs 16 bytes, got 15"),
        (
            raw(X, N, shapes=((3, 1), (2,))),
            Code.INVALID_ARGUMENT,
            "input 'x': shape [3, 1] of FP64 needs 24 bytes, got 16",
        ),
        (raw(X, N, shapes=((-2, 1), (2,))), Code.INVALID_ARGUMENT, "input 'x': expected shape [rows, 1], got [-2, 1]"),
        (raw(X, N, shapes=((), (2,))), Code.INVALID_ARGUMENT, "input 'x': expected shape [rows, 1], got []"),
        (
            raw(X, N, datatypes=("BF16", "INT64")),
            Code.INVALID_ARGUMENT,
            "input 'x': unknown datatype 'BF16'; known are",
        ),
        (raw(), Code.INVALID_ARGUMENT, "input 'x': shape [2, 1] needs 2 values, got 0"),
        (
            contents_too(raw(X, N)),
            Code.INVALID_ARGUMENT,
            "input 'x': has contents, and raw_input_contents are there too; send one of them",
        ),
        (
            elsewhere(infer()),
            Code.INVALID_ARGUMENT,
            "input 'n': values of INT64 go in int64_contents, got int_contents",
        ),
        (
            raw(X, b"\x01\x00\x00\x00\xff", datatypes=("FP64", "BYTES"), shapes=((2, 1), (1,))),
            Code.INVALID_ARGUMENT,
            "input 'n': expected text in UTF-8, got other bytes at row 0",
        ),
        (MESSAGES["ModelInferRequest"](model_name="m"), Code.INVALID_ARGUMENT, "'inputs' is empty; send one tensor"),
        (b"\xff\xff", Code.INVALID_ARGUMENT, "the request is not a ModelInferRequest: not protobuf of that message"),
        (
            b"\x0a\x01\xff",
            Code.INVALID_ARGUMENT,
            "the request is not a ModelInferRequest: not protobuf of that message",
        ),
    ],
)
def test_a_bad_request_is_a_status_and_a_sentence(serve_grpc, request_, code, said):
    client = serve_grpc()
    got, sentence = client.refused("ModelInfer", request_)
    assert (got, sentence[: len(said)]) == (code, said)
    assert client.server.records() == []
    status = {Code.NOT_FOUND: 404, Code.INVALID_ARGUMENT: 400}[code]
    assert client.server.metric(f'trueline_inference_requests_total{{model="m",version="",role="",code="{status}"') == 1


bytes_ = st.binary(max_size=40)
names = st.sampled_from(["x", "n", "z", ""])
datatypes = st.sampled_from(["FP64", "FP32", "FP16", "INT64", "INT8", "UINT32", "BOOL", "BYTES", "BF16", "", "é"])
shapes = st.lists(st.integers(-3, 2**62) | st.integers(0, 3), max_size=10)
several = st.lists(st.tuples(names, datatypes, shapes, st.booleans()), max_size=4)


@pytest.fixture
def one(serve_grpc):
    return serve_grpc()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=several,
    parts=st.lists(bytes_, max_size=4),
    numbers=st.lists(st.floats(), max_size=4),
    name=st.text(max_size=3),
)
def test_whatever_is_sent_gets_an_answer_or_a_refusal_of_the_callers(one, tensors, parts, numbers, name):
    request = MESSAGES["ModelInferRequest"](model_name="m", id=name, raw_input_contents=parts)
    for named, datatype, shape, typed in tensors:
        made = request.inputs.add(name=named, datatype=datatype, shape=shape)
        if typed:
            made.contents.fp64_contents.extend(numbers)
            made.contents.bytes_contents.extend(parts)
    try:
        assert one("ModelInfer", request).model_name == "m"
    except grpc.RpcError as problem:
        assert problem.code() is Code.INVALID_ARGUMENT, problem  # noqa: PT017
        assert "unexpected" not in problem.details()  # noqa: PT017


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_message_are_the_callers_mistake(one, data):
    got, _ = one.refused("ModelInfer", data)
    assert got in (Code.INVALID_ARGUMENT, Code.NOT_FOUND)


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=5))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_typed_and_raw_say_the_same(one, values):
    n = [0] * len(values)
    typed = one("ModelInfer", infer(values, n))
    shape = (len(values), 1)
    sent = raw(binary.pack("FP32", values), binary.pack("INT64", n), shapes=(shape, shape), datatypes=("FP32", "INT64"))
    assert one("ModelInfer", sent).raw_output_contents[0] == binary.pack(
        "FP64", typed.outputs[0].contents.fp64_contents
    )


def test_health_and_metadata(serve_grpc):
    client = serve_grpc(wanted=table(routes=(route(1), route(2, Arm.shadow, 0))))
    assert client("ServerLive").live
    assert client("ServerReady").ready
    assert client("ModelReady", name="m").ready
    assert client("ModelReady", name="m", version="2").ready
    assert client.refused("ModelReady", name="m", version="3")[0] is Code.NOT_FOUND
    assert client.refused("ModelReady", name="z")[0] is Code.NOT_FOUND
    server = client("ServerMetadata")
    assert server.name == "trueline"
    found = client("ModelMetadata", name="m")
    assert (found.name, list(found.versions), found.platform) == ("m", ["1", "2"], "sklearn_fake")
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
        ("x", "FP64", [-1, 1]),
        ("n", "INT64", [-1, 1]),
    ]
    assert [one.name for one in found.outputs] == [SIGNATURE.output]
    assert client("ServerReady", metadata=[("authorization", "Bearer nobody asks")]).ready
    assert client("RepositoryIndex").models[0].state == "READY"


def test_without_a_released_version_it_lives_and_is_not_ready(serve_grpc):
    client = serve_grpc(wanted=replace(table(), routes=()))
    assert client("ServerLive").live
    assert not client("ServerReady").ready
    assert client.refused("ModelInfer", infer()) == (
        Code.UNAVAILABLE,
        "no version of 'm' is released yet; release one and try again",
    )


def test_beyond_loopback_every_call_needs_the_token_except_the_probes(serve_grpc):
    client = serve_grpc(host="0.0.0.0", token="secret")  # noqa: S104
    client.close()
    client.server.server.grpc = f"127.0.0.1:{client.server.server.grpc.rpartition(':')[2]}"
    missing = "a bearer token is needed here: send 'Authorization: Bearer …' with the token"
    unknown = "this token is not known here; use the one in the state folder's token file"
    for stranger, said in ((Client(client.server), missing), (Client(client.server, "wrong"), unknown)):
        assert stranger("ServerLive").live
        assert stranger("ServerReady").ready
        assert stranger.refused("ModelInfer", infer()) == (Code.UNAUTHENTICATED, said)
        assert stranger.refused("ServerMetadata")[0] is Code.UNAUTHENTICATED
        assert stranger.refused("RepositoryModelLoad", model_name="m")[0] is Code.UNAUTHENTICATED
        stranger.close()
    known = Client(client.server, "secret")
    assert known("ModelInfer", infer()).model_version == "1"
    known.close()


def test_overload_says_when_to_come_again(serve_grpc):
    client = serve_grpc(waiting=0)
    with pytest.raises(grpc.RpcError) as caught:
        client("ModelInfer", infer())
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"


def test_a_version_that_is_named_answers_while_the_champion_has_no_room(serve_grpc):
    client = serve_grpc(wanted=table(routes=(route(1), route(2, Arm.shadow, 0.0))))
    door = client.server.server.plane.versions.standing.door
    client.server.call(lambda: setattr(door, "room", 0))
    assert client.refused("ModelInfer", infer())[0] is Code.RESOURCE_EXHAUSTED
    assert client("ModelInfer", infer(model_version="2")).model_version == "2"


def test_a_message_beyond_the_limit_is_refused(serve_grpc):
    client = serve_grpc(body_bytes=100_000)
    many = [0.0] * 20_000
    assert client.refused("ModelInfer", infer(many, [0] * 20_000))[0] is Code.RESOURCE_EXHAUSTED
    assert client("ModelInfer", infer()).model_version == "1"


def test_a_model_that_fails_is_internal_and_a_defect_shows_no_trace(serve_grpc):
    def broken(columns):
        del columns
        raise ValueError("I will not")

    client = serve_grpc({1: Fake(1, broken)})
    got, sentence = client.refused("ModelInfer", infer())
    assert got is Code.INTERNAL
    assert "I will not" in sentence
    assert "Traceback" not in sentence


def test_what_it_does_not_speak_is_unimplemented(serve_grpc):
    client = serve_grpc()
    ask = client._channel.unary_unary(f"/{SERVICE}/ModelStatistics")
    with pytest.raises(grpc.RpcError) as caught:
        ask(b"", timeout=20)
    assert caught.value.code() is Code.UNIMPLEMENTED


def test_stopping_answers_what_is_in_progress(serve_grpc):
    gate = threading.Event()
    began = threading.Event()

    def slow(columns):
        import numpy as np

        if 1.5 in list(columns["x"]):
            began.set()
            gate.wait(20)
        return np.array(columns["x"], dtype=float)

    client = serve_grpc({1: Fake(1, slow)})
    channel = client._channel
    ask = channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=MESSAGES["ModelInferResponse"].FromString)
    answered = ask.future(infer().SerializeToString(), timeout=20)
    assert began.wait(20)
    stopping = threading.Thread(target=client.server.stop)
    stopping.start()
    gate.set()
    assert list(answered.result(20).outputs[0].contents.fp64_contents) == [1.5, 2.5]
    stopping.join(20)
    eventually(lambda: client.refused("ServerLive")[0] is Code.UNAVAILABLE)


def test_requests_of_one_turn_are_one_batch_whatever_they_came_by(serve_grpc):
    client = serve_grpc()
    ask = client._channel.unary_unary(f"/{SERVICE}/ModelInfer")
    pending = [ask.future(infer().SerializeToString(), timeout=20) for _ in range(200)]
    for one in pending:
        one.result(20)
    assert client.server.metric("trueline_inference_batch_size_count") < 200 + 1
    assert len(client.server.records(PredictionRecord)) == 200


def test_shared_memory_is_not_supported(serve_grpc):
    request = raw()
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    got, said = serve_grpc().refused("ModelInfer", request)
    assert (got, said) == (
        Code.UNIMPLEMENTED,
        "input 'x': shared memory is not supported here; send the data itself",
    )


def test_a_port_in_use_and_a_missing_library_are_sentences(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = Config(state=StateFolder(tmp_path / "state").create(), port=0, grpc_port=port)
        with pytest.raises(Unavailable) as caught:
            Running(config, {1: Fake(1)}).start()
    assert str(caught.value) == (
        f"port {port} on 127.0.0.1 is in use; stop what listens there or choose another --grpc-port"
    )
    monkeypatch.setitem(sys.modules, "trueline.serving.grpc_server", None)
    config = Config(state=StateFolder(tmp_path / "other").create(), port=0, grpc_port=0)
    with pytest.raises(Unavailable, match=r"gRPC is not installed here; pip install 'trueline\[grpc\]'"):
        Running(config, {1: Fake(1)}).start()


@pytest.mark.real
def test_several_processes_share_the_port_and_end_without_a_failed_call(tmp_path):
    state = StateFolder(tmp_path / "state").create()
    command = [sys.executable, "-m", "trueline", "serve", "--state", str(state.root), "--port", "0", "--grpc-port", "0"]
    with subprocess.Popen(
        [*command, "--processes", "2", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as serve:
        port = json.loads(serve.stdout.readline())["grpc_port"]
        channels = [
            grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(20)
        ]
        for channel in channels:
            alive = channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=20, wait_for_ready=True)
            assert MESSAGES["ServerLiveResponse"].FromString(alive).live
            channel.close()
        serve.terminate()
        _, said = serve.communicate(timeout=30)
    assert serve.returncode == 0
    assert "Traceback" not in said
    shutil.rmtree(state.socket("any").parent, ignore_errors=True)


@pytest.mark.real
def test_a_version_in_a_child_process_dies_and_comes_again_beside_grpcs_threads(serve_grpc):
    client = serve_grpc({1: "child"})
    assert list(client("ModelInfer", infer()).outputs[0].contents.fp64_contents) == [150, 250]
    got, said = client.refused("ModelInfer", infer(x=(666.0, 1.0)))
    assert got is Code.UNAVAILABLE
    assert said.endswith("try again")

    def answers():
        try:
            return client("ModelInfer", infer()).model_version == "1"
        except grpc.RpcError:
            return False

    eventually(answers)
