"""KServe's first protocol: `POST /v1/models/{model}:predict`.

In: {"instances": [row, …]} (or "inputs", as its scikit-learn server takes), a row being an object of columns or a list of values in the contract's
order. Out: {"predictions": […]}.
"""

from __future__ import annotations

from trueline.errors import InvalidInput
from trueline.packaging.signature import Signature
from trueline.serving import tabular
from trueline.serving.dataplane import Answer, Call
from trueline.serving.predict import decode_json
from trueline.serving.responses import JSON, Header
from trueline.serving.responses import encode as to_json


def decode(body: bytes, signature: Signature) -> Call:
    parsed = decode_json(body)
    if not isinstance(parsed, dict) or ("instances" in parsed) == ("inputs" in parsed):
        raise InvalidInput('expected an object with a list of rows: {"instances": [row, …]}')
    where = "instances" if "instances" in parsed else "inputs"
    return tabular.from_rows(parsed[where], signature, where)


def encode(answer: Answer) -> tuple[bytes, bytes, tuple[Header, ...]]:
    return to_json({"predictions": answer.outputs}), JSON, ()
