"""`POST /predict`: rows as JSON objects of named columns.

In: `{"instances": [{"age": 31, "plan": "a"}, …]}`, or one such row as the whole body.
Out: `{"predictions": […], "prediction_ids": […], "model": …, "version": …}`; the ids are null, and a header says so,
while the journal cannot be written.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trueline.errors import InvalidInput
from trueline.journal.records import prediction_id
from trueline.serving.dataplane import Answer, Call
from trueline.serving.responses import encode as to_json

_decode = msgspec.json.Decoder().decode


def decode_json(body: bytes) -> Any:
    """Any JSON; InvalidInput with one sentence otherwise."""
    try:
        return _decode(body)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply; a row is one object of plain values") from None
    except (msgspec.DecodeError, ValueError) as problem:
        what = "it is empty" if not body.strip() else str(problem)
        raise InvalidInput(f"the body is not valid JSON: {what}") from None


def decode(body: bytes) -> Call:
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


def encode(answer: Answer) -> bytes:
    request_id = answer.request_id
    return to_json(
        {
            "predictions": answer.outputs,
            "prediction_ids": [
                prediction_id(request_id, row) if answer.recorded else None for row in range(len(answer.outputs))
            ],
            "model": answer.model,
            "version": answer.version,
        }
    )


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
            return f"expected an object of columns at row {number}"
    known = {name for row in rows for name in row}
    number, name = min((number, name) for number, row in enumerate(rows) for name in known - row.keys())
    return f"input '{name}': is missing at row {number}"
