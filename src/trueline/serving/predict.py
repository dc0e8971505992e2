"""`POST /predict`: rows as JSON objects of named columns.

In: `{"instances": [{"age": 31, "plan": "a"}, …]}`, or one such row as the whole body.
Out: `{"predictions": […], "prediction_ids": […], "model": …, "version": …}`; the ids are null, and a header says so,
while the journal cannot be written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from trueline.domain.contracts import missing
from trueline.errors import InvalidInput
from trueline.journal.records import prediction_id
from trueline.serving.dataplane import Answer, Call
from trueline.serving.plain import Plain
from trueline.serving.responses import encode as to_json

_decode = msgspec.json.Decoder().decode
_A_KIND = {list: "a list; /invocations takes rows without names", type(None): "null"}


def decode_json(body: bytes) -> Any:
    """Any JSON; InvalidInput with one sentence otherwise."""
    try:
        return _decode(body)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply; a row is one object of plain values") from None
    except (msgspec.DecodeError, ValueError) as problem:
        what = (
            "it is empty"
            if not body.strip()
            else str(problem).removeprefix("JSON is malformed: ").partition(" - at `$")[0]
        )
        if b"NaN" in body or b"Infinity" in body:
            what += "; JSON has neither NaN nor Infinity, send null for a missing value"
        raise InvalidInput(f"the body is not valid JSON: {what}") from None


def decode(body: bytes, plain: Plain | None = None) -> Call:
    """The call of a body; `plain` decodes those that need no further look."""
    if plain is not None and (rows := plain.decode(body)) is not None:
        return Call({}, len(rows), plain_rows=rows, plain=plain)
    parsed = decode_json(body)
    if not isinstance(parsed, dict):
        raise InvalidInput('expected an object: one row, or {"instances": [row, …]}')
    rows = parsed.get("instances", parsed)
    if rows is parsed:
        return Call({name: [value] for name, value in parsed.items()}, 1)
    if isinstance(rows, dict):
        return Call({name: [value] for name, value in rows.items()}, 1)
    if not isinstance(rows, list):
        raise InvalidInput("'instances' must be a list of rows, each an object of columns")
    if not rows:
        raise InvalidInput("'instances' has no rows; send at least one")
    return Call(_columns(rows), len(rows))


class _Said(msgspec.Struct, gc=False):
    predictions: list[float]
    prediction_ids: list[str | None]
    model: str
    version: int


def encode(answer: Answer) -> bytes:
    request_id, outputs = answer.request_id, answer.outputs
    if len(outputs) == 1 and answer.recorded:  # most answers, in a third of the time
        tail = _tail(answer.model, answer.version)
        return b'{"predictions":%b,"prediction_ids":%b%b' % (
            to_json(outputs),
            to_json((prediction_id(request_id, 0),)),
            tail,
        )
    ids = [prediction_id(request_id, row) if answer.recorded else None for row in range(len(outputs))]
    return to_json(_Said(outputs, ids, answer.model, answer.version))


@lru_cache(maxsize=64)
def _tail(model: str, version: int) -> bytes:
    return b',"model":%b,"version":%d}' % (to_json(model), version)


def _columns(rows: list[Any]) -> dict[str, list[Any]]:
    first = rows[0]
    if isinstance(first, dict):
        if len(rows) == 1:
            return {name: [value] for name, value in first.items()}
        names = first.keys()
        if all(isinstance(row, dict) and row.keys() == names for row in rows):
            return {name: [row[name] for row in rows] for name in names}
    raise InvalidInput(_uneven(rows))


def _uneven(rows: list[Any]) -> str:
    """What is wrong with rows that are not all objects of the same columns."""
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            return f"expected an object of columns at row {number}, got {_A_KIND.get(type(row), 'a single value')}"
    known = {name: None for row in rows for name in row}
    number = next(number for number, row in enumerate(rows) if known.keys() - row.keys())
    return missing([name for name in known if name not in rows[number]], f" at row {number}")
