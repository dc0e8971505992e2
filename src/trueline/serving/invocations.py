"""MLflow's scoring protocol: `POST /invocations` in its four JSON forms and CSV, `/ping`, `/health`, `/version`.

In, as JSON, exactly one of
    {"dataframe_split": {"columns": […], "data": [[…], …]}}     {"dataframe_records": [{…}, …]}
    {"instances": [{…} or […], …]}                              {"inputs": {"age": [31, 54], …} or rows}
with or without "params", which no model here has and which are looked at no further. Out: {"predictions": […]}.

It takes more than MLflow does: rows without names, by the order of the contract, which MLflow refuses to a model with named columns. And
it never converts in silence: the contract says which values are taken.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from math import isinf
from typing import Any

from trueline.domain.contracts import FLOATS, Column, Kind
from trueline.errors import InvalidInput, TruelineError, UnsupportedMedia
from trueline.packaging.signature import Signature
from trueline.serving import tabular
from trueline.serving.dataplane import Answer, Call
from trueline.serving.predict import decode_json
from trueline.serving.responses import JSON, Header
from trueline.serving.responses import encode as to_json

JSON_TYPE, CSV_TYPE = "application/json", "text/csv"

_NULLS = frozenset({"", "nan", "na", "n/a", "null", "none", "<na>", "#n/a", "-nan"})
"""What pandas writes or reads as no number, in lower case; for text only the empty field is null."""

_CODES: Mapping[int, str] = {  # MLflow's names for what it answers with these
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    415: "BAD_REQUEST",
    429: "REQUEST_LIMIT_EXCEEDED",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
}


def decode(body: bytes, content_type: bytes, signature: Signature) -> Call:
    """The call of a request to a model of this signature."""
    if _media(content_type) == CSV_TYPE:
        return _csv(body, signature)
    parsed = _json(body)
    given = [name for name in _FORMS if name in parsed] if isinstance(parsed, dict) else []
    if len(given) != 1:
        what = f"got {' and '.join(given)}" if given else "got none of them"
        raise InvalidInput(f"expected a JSON object with exactly one of {', '.join(_FORMS)}; {what}")
    return _FORMS[given[0]](parsed[given[0]], signature)


def encode(answer: Answer) -> tuple[bytes, bytes, tuple[Header, ...]]:
    return to_json({"predictions": answer.outputs}), JSON, ()


def refusal(error: TruelineError) -> bytes:
    return to_json({"error_code": _CODES.get(error.status, "INTERNAL_ERROR"), "message": str(error)})


def _json(body: bytes) -> Any:
    """JSON, also as MLflow's client writes a frame: with NaN and Infinity, which are null here."""
    try:
        return decode_json(body)
    except InvalidInput as refused:
        if b"NaN" not in body and b"Infinity" not in body:
            raise
        try:
            found = json.loads(body, parse_constant=lambda _: None, parse_float=_finite)
            if b"\\ud" in body.lower():  # half of a surrogate pair is no text
                json.dumps(found, ensure_ascii=False).encode()
        except (json.JSONDecodeError, RecursionError):
            raise refused from None
        except ValueError as problem:
            raise InvalidInput(f"the body is not valid JSON: {problem}") from None
        return found


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError(f"{text[:40]} is out of range")
    return number


def _media(content_type: bytes) -> str:
    """The media type; UnsupportedMedia for another one, or one with parameters that mean something else."""
    parts = [part.strip() for part in content_type.decode("latin-1").lower().split(";")]
    kind = parts[0] or JSON_TYPE
    if kind not in (JSON_TYPE, CSV_TYPE):
        raise UnsupportedMedia(f"Content-Type: expected {JSON_TYPE} or {CSV_TYPE}, got {kind[:100]}")
    for part in filter(None, parts[1:]):
        if part.replace('"', "") not in ("charset=utf-8", "charset=utf8", "header=present"):
            raise UnsupportedMedia(
                f"Content-Type: expected {kind} in UTF-8 without further parameters, got {part[:100]}"
            )
    return kind


def _split(value: Any, signature: Signature) -> Call:
    del signature
    columns = value.get("columns") if isinstance(value, dict) else None
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise InvalidInput(
            "dataframe_split must be an object with 'columns', a list of names, and 'data', a list of rows"
        )
    if len(set(columns)) < len(columns):
        twice = next(name for place, name in enumerate(columns) if name in columns[:place])
        raise InvalidInput(f"input '{twice}': is given twice")
    if not columns:
        raise InvalidInput("dataframe_split has no columns")
    return tabular.from_lists(columns, value.get("data"), "dataframe_split.data")


def _records(value: Any, signature: Signature) -> Call:
    del signature
    return tabular.from_records(value, "dataframe_records")


def _instances(value: Any, signature: Signature) -> Call:
    return tabular.from_rows(value, signature, "instances")


def _inputs(value: Any, signature: Signature) -> Call:
    if isinstance(value, dict):
        return tabular.from_columns(value, "inputs")
    return tabular.from_rows(value, signature, "inputs")


_FORMS: Mapping[str, Callable[[Any, Signature], Call]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}


def _csv(body: bytes, signature: Signature) -> Call:
    """A header of names and a line for each row; fields become what the contract says of their column."""
    try:
        text = io.StringIO(body.decode("utf-8-sig"), newline="")
        header, *rows = csv.reader(text, strict=True)
    except UnicodeDecodeError as problem:
        raise InvalidInput(f"the body is not CSV in UTF-8: {problem.reason} at byte {problem.start}") from None
    except csv.Error as problem:
        raise InvalidInput(f"the body is not CSV: {problem}") from None
    except ValueError:
        raise InvalidInput("the body is empty; expected a line of column names and one line for each row") from None
    rows = [row for row in rows if row]
    if len(set(header)) < len(header):
        raise InvalidInput(f"a column name appears twice in the first line: {', '.join(header)[:200]}")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise InvalidInput(f"expected {len(header)} fields, as the first line has, got {len(row)} at row {number}")
    if not rows:
        raise InvalidInput("the body has no rows after its first line; send at least one")
    known = {column.name: column for column in signature.inputs}
    texts = zip(*rows, strict=True)
    return Call({name: _typed(known.get(name), values) for name, values in zip(header, texts, strict=True)}, len(rows))


def _typed(column: Column | None, texts: Sequence[str]) -> list[Any]:
    """What the fields of a column stand for; what it cannot be stays text, and the contract has the words for it."""
    if column is None or column.kind in (Kind.string, Kind.datetime):
        return [text or None for text in texts]
    if column.kind is Kind.boolean:
        return [_BOOLEANS.get(text.lower(), text) for text in texts]
    whole = column.kind not in FLOATS
    return [None if text.strip().lower() in _NULLS else _number(text, whole=whole) for text in texts]


_BOOLEANS: Mapping[str, bool | None] = {"true": True, "false": False, "": None}


def _number(text: str, *, whole: bool) -> float | str:
    if "_" in text or not text.isascii():  # digits to Python alone
        return text
    try:
        return int(text) if whole and len(text) < 400 else float(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
