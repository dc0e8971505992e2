"""Run by the Python of `.venv-clients`: other projects' clients ask a trueline server; what they were told goes to stdout as JSON."""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
import pandas as pd

FRAME = pd.DataFrame({"x": [1.5, 2.5, -3.0], "n": [1, 2, 3], "plan": ["a", "b", "ü"]})


def triton(url, model):
    import tritonclient.http as client

    address = url.removeprefix("http://")
    told = {}
    with client.InferenceServerClient(address) as server:
        told["live"] = [server.is_server_live(), server.is_server_ready(), server.is_model_ready(model)]
        told["not ready"] = server.is_model_ready(model, "99")
        told["extensions"] = server.get_server_metadata()["extensions"]
        told["inputs"] = [one["name"] for one in server.get_model_metadata(model, "1")["inputs"]]
        for binary in (True, False):
            inputs = triton_inputs(client, binary=binary)
            outputs = [client.InferRequestedOutput("y", binary_data=binary)]
            answer = server.infer(model, inputs, outputs=outputs, request_id="7")
            told[f"binary {binary}"] = [answer.get_response()["id"], answer.as_numpy("y").reshape(-1).tolist()]
        told["no outputs named"] = (
            server.infer(model, triton_inputs(client, binary=True)).as_numpy("y").reshape(-1).tolist()
        )
        told["version"] = server.infer(model, triton_inputs(client, binary=True), model_version="2").get_response()[
            "model_version"
        ]
        for algorithm in ("gzip", "deflate"):
            inputs = triton_inputs(client, binary=True)
            answer = server.infer(
                model, inputs, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
            )
            told[algorithm] = answer.as_numpy("y").reshape(-1).tolist()
        try:
            server.infer(model, triton_inputs(client, binary=True)[:1])
        except client.InferenceServerException as refused:
            told["refused"] = [refused.status(), refused.message()]
        told["index"] = server.get_model_repository_index()
        config = {"version_policy": {"specific": {"versions": [3]}}}
        server.load_model(model, config=json.dumps(config))
        told["loaded"] = server.is_model_ready(model, "3")
        server.unload_model(model)
        told["unloaded"] = not server.is_model_ready(model, "3")
    return told


def triton_inputs(client, *, binary):
    inputs = []
    for name, datatype in (("x", "FP64"), ("n", "INT64"), ("plan", "BYTES")):
        values = FRAME[[name]].to_numpy()
        one = client.InferInput(name, list(values.shape), datatype)
        one.set_data_from_numpy(values.astype(object) if datatype == "BYTES" else values, binary_data=binary)
        inputs.append(one)
    return inputs


def mlserver(url, model):
    import requests
    from mlserver.codecs import NumpyCodec, NumpyRequestCodec, PandasCodec, StringCodec
    from mlserver.types import (
        InferenceRequest,
        InferenceResponse,
        MetadataModelResponse,
        MetadataServerResponse,
        RepositoryIndexResponse,
    )

    def infer(request):
        body = request.model_dump_json(exclude_none=True)
        reply = requests.post(
            f"{url}/v2/models/{model}/infer", data=body, headers={"Content-Type": "application/json"}, timeout=30
        )
        reply.raise_for_status()
        return InferenceResponse.model_validate(reply.json())

    told = {}
    frame = infer(PandasCodec.encode_request(FRAME))
    told["pandas"] = PandasCodec.decode_response(frame)["y"].tolist()
    raw = infer(PandasCodec.encode_request(FRAME, use_bytes=False))
    told["pandas as text"] = NumpyRequestCodec.decode_response(raw).reshape(-1).tolist()
    columns = InferenceRequest(
        inputs=[
            NumpyCodec.encode_input("x", FRAME[["x"]].to_numpy()),
            NumpyCodec.encode_input("n", FRAME[["n"]].to_numpy()),
            StringCodec.encode_input("plan", FRAME["plan"].tolist(), use_bytes=False),
        ]
    )
    told["columns"] = NumpyCodec.decode_output(infer(columns).outputs[0]).reshape(-1).tolist()
    told["server"] = MetadataServerResponse.model_validate(requests.get(f"{url}/v2", timeout=30).json()).name
    described = MetadataModelResponse.model_validate(requests.get(f"{url}/v2/models/{model}", timeout=30).json())
    told["inputs"] = [one.name for one in described.inputs]
    index = requests.post(f"{url}/v2/repository/index", json={}, timeout=30).json()
    told["index"] = [
        str(getattr(one.state, "value", one.state)) for one in RepositoryIndexResponse.model_validate(index).root
    ]
    return told


def kserve(url, model):
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    async def ask():
        told = {}
        v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
        told["v2 live"] = [
            await v2.is_server_live(url),
            await v2.is_server_ready(url),
            await v2.is_model_ready(url, model),
        ]
        for binary in (True, False):
            inputs = []
            for name, datatype in (("x", "FP64"), ("n", "INT64"), ("plan", "BYTES")):
                values = FRAME[[name]].to_numpy()
                one = InferInput(name, list(values.shape), datatype)
                one.set_data_from_numpy(values.astype(object) if datatype == "BYTES" else values, binary_data=binary)
                inputs.append(one)
            request = InferRequest(model_name=model, infer_inputs=inputs, request_id="9")
            answer = await v2.infer(url, request, model_name=model)
            told[f"v2 binary {binary}"] = [answer.id, np.asarray(answer.outputs[0].as_numpy()).reshape(-1).tolist()]
        v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
        told["v1 live"] = [await v1.is_server_live(url.removesuffix("/")), await v1.is_model_ready(url, model)]
        rows = {"instances": FRAME.to_dict(orient="records")}
        told["v1"] = (await v1.infer(url, rows, model_name=model))["predictions"]
        rows = {"instances": FRAME.to_numpy().tolist()}
        told["v1 by place"] = (await v1.infer(url, rows, model_name=model))["predictions"]
        await v2.close()
        await v1.close()
        return told

    return asyncio.run(ask())


if __name__ == "__main__":
    asked, url, model = sys.argv[1:]
    sys.stdout.write(json.dumps({"triton": triton, "mlserver": mlserver, "kserve": kserve}[asked](url, model)))
