"""Run by the Python of `.venv-clients`: other projects' gRPC clients ask a trueline server; what they were told goes to stdout as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module

import numpy as np

COLUMNS = (("x", "FP64", [1.5, 2.5, -3.0]), ("n", "INT64", [1, 2, 3]), ("plan", "BYTES", ["a", "b", "ü"]))


def triton(address, model):
    import tritonclient.grpc as client

    told = {}
    with client.InferenceServerClient(address) as server:
        told["live"] = [server.is_server_live(), server.is_server_ready(), server.is_model_ready(model)]
        told["server"] = server.get_server_metadata().name
        metadata = server.get_model_metadata(model, "1")
        told["inputs"] = [[one.name, one.datatype, list(one.shape)] for one in metadata.inputs]
        inputs = [_filled(client.InferInput, *column) for column in COLUMNS]
        answer = server.infer(model, inputs, outputs=[client.InferRequestedOutput("y")], request_id="7")
        told["answer"] = [answer.get_response().id, answer.as_numpy("y").reshape(-1).tolist()]
        told["no outputs named"] = server.infer(model, inputs).as_numpy("y").reshape(-1).tolist()
        told["version"] = server.infer(model, inputs, model_version="2").get_response().model_version
        told["compressed"] = (
            server.infer(model, inputs, compression_algorithm="gzip").as_numpy("y").reshape(-1).tolist()
        )
        told["asynchronous"] = _asynchronous(server, model, inputs)
        told["refused"] = []
        for broken, name, version in ((inputs[:1], model, ""), (inputs, "other", ""), (inputs, model, "99")):
            try:
                server.infer(name, broken, model_version=version)
            except client.InferenceServerException as refused:
                told["refused"].append([refused.status(), refused.message()])
        told["index"] = [[one.version, one.state] for one in server.get_model_repository_index().models]
        server.load_model(model, config=json.dumps({"version_policy": {"specific": {"versions": [3]}}}))
        told["loaded"] = server.is_model_ready(model, "3")
        server.unload_model(model)
        try:
            told["unloaded"] = not server.is_model_ready(model, "3")
        except client.InferenceServerException as refused:
            told["unloaded"] = refused.status()
    return told


def _asynchronous(server, model, inputs):
    import queue

    answers = queue.Queue()
    for number in range(50):
        server.async_infer(model, inputs, lambda result, error: answers.put((result, error)), request_id=str(number))
    found = [answers.get(timeout=30) for _ in range(50)]
    assert all(error is None for _, error in found)
    return sorted({int(result.get_response().id) for result, _ in found}) == list(range(50))


def kserve(address, model):
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    async def ask():
        told = {}
        client = InferenceGRPCClient(address)
        told["live"] = [
            await client.is_server_live(),
            await client.is_server_ready(),
            await client.is_model_ready(model),
        ]
        for raw in (True, False):
            inputs = [_filled(InferInput, *column, binary_data=raw) for column in COLUMNS]
            request = InferRequest(model_name=model, infer_inputs=inputs, request_id="9")
            answer = await client.infer(request)
            values = np.asarray(answer.outputs[0].as_numpy()).reshape(-1).tolist()
            told[f"raw {raw}"] = [answer.id, answer.model_version, values]
        await client.close()
        return told

    return asyncio.run(ask())


def _filled(kind, name, datatype, values, **options):
    array = np.array(values, dtype=object if datatype == "BYTES" else None).reshape(-1, 1)
    one = kind(name, list(array.shape), datatype)
    one.set_data_from_numpy(array, **options)
    return one


def stubs(module):
    """Every message of another project's stubs, and its fields."""
    found = {}
    for message in import_module(module).DESCRIPTOR.message_types_by_name.values():
        look(message, message.name, found)
    return found


def look(message, name, found):
    """Number, type, whether it is repeated and its oneof, of each field of a message and of those inside it."""
    found[name] = {
        one.name: [
            one.number,
            one.message_type.name if one.message_type else one.type,
            one.is_repeated,
            one.containing_oneof.name if one.containing_oneof else None,
        ]
        for one in message.fields
    }
    for inner in message.nested_types:
        look(inner, f"{name}.{inner.name}", found)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    print(json.dumps({"triton": triton, "kserve": kserve, "stubs": stubs}[what](*rest)))  # noqa: T201
