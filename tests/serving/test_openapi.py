"""The description of the server: valid, true (its examples are answered), and readable offline."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from itertools import pairwise

import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from serving_world import Fake, route, table

from trueline.domain.contracts import Column, Kind
from trueline.domain.routes import Arm
from trueline.packaging.signature import CLASSIFICATION, REGRESSION, Signature
from trueline.serving import docspage, openapi
from trueline.settings import StateFolder

INPUTS = (
    Column("distance", Kind.float64, minimum=31.5, maximum=4983.0),
    Column("hour", Kind.integer, minimum=0, maximum=23, strict=True),
    Column("delay before", Kind.float32, nullable=True),
    Column("carrier", Kind.string, categories=("9E", "AA", "it's <b>"), nullable=True),
    Column("origin", Kind.string, categories=("EWR", "JFK"), strict=True),
    Column("name", Kind.string, personal=True),
    Column("holiday", Kind.boolean),
    Column("scheduled", Kind.datetime),
)
RICH = Signature(INPUTS, "late", CLASSIFICATION)


def rich(version):
    return Fake(version, lambda columns: np.full(len(columns["hour"]), 0.25), signature=RICH)


@pytest.fixture
def server(serve):
    return serve(
        {1: rich(1), 2: rich(2), 3: rich(3)}, table(model="flights & more", routes=(route(1), route(2, Arm.shadow, 0)))
    )


@pytest.fixture
def document(server):
    return server.get("/openapi.json").json


def test_it_is_valid_and_the_same_under_mlservers_path(server, document):
    OpenAPIV31SpecValidator(document).validate()
    assert server.get("/v2/docs/dataplane.json").json == document
    assert document["info"]["version"] == "1"


def test_a_column_is_described_as_the_contract_has_it(document):
    row = document["components"]["schemas"]["Row"]
    assert row["required"] == [column.name for column in INPUTS]
    assert row["properties"] == {
        "distance": {
            "type": "number",
            "format": "double",
            "x-seen": {"minimum": 31.5, "maximum": 4983.0},
            "description": "Seen in training: from 31.5 to 4983; other values are served too, and counted.",
        },
        "hour": {"type": "integer", "format": "int64", "minimum": 0, "maximum": 23},
        "delay before": {
            "type": ["number", "null"],
            "format": "float",
            "description": "NaN and infinities count as null.",
        },
        "carrier": {
            "anyOf": [{"enum": ["9E", "AA", "it's <b>", None]}, {"type": ["string", "null"]}],
            "description": "Other values are served too, and counted.",
        },
        "origin": {"type": "string", "enum": ["EWR", "JFK"]},
        "name": {"type": "string", "description": "Personal: never shown in messages or logs.", "x-personal": True},
        "holiday": {"type": "boolean"},
        "scheduled": {"type": "string", "format": "date-time"},
    }


def requests(document):
    """Every request the document shows: method, path, media type and body."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            at = path
            for parameter in operation.get("parameters", ()):
                at = at.replace(f"{{{parameter['name']}}}", parameter["example"])
            if method == "get":
                yield method, at, None, None
                continue
            for media, content in operation["requestBody"]["content"].items():
                shown = content["examples"].values() if "examples" in content else [{"value": content["example"]}]
                for one in shown:
                    yield method, at, media, one["value"]


def test_every_example_of_the_document_is_answered(server, document):
    asked = list(requests(document))
    assert len(asked) >= 28
    for method, path, media, value in asked:
        if path.endswith("/unload"):  # of what is routed: refused, as it says
            continue
        body = value.encode() if isinstance(value, str) else value
        reply = server.request(method.upper(), path, body, {"Content-Type": media} if media else None)
        assert reply.status == 200, (method, path, reply.body)


def test_every_path_of_the_server_is_in_the_document_but_for_the_documents_themselves(server, document):
    table_of_routes = server.server._endpoints._table()
    mine = {path.replace("{model}", "flights%20%26%20more") for path in table_of_routes}
    assert mine - document["paths"].keys() == {
        "/",
        "/docs",
        "/openapi.json",
        "/v2/docs",
        "/v2/docs/dataplane.json",
        "/v1/models/flights%20%26%20more:explain",
    }
    assert document["paths"].keys() <= mine


def test_examples_and_answers_are_what_the_schemas_say(server, document):
    for path, methods in document["paths"].items():
        operation = methods.get("post")
        if operation is None or "{" in path or path.endswith("load"):
            continue
        content = operation["requestBody"]["content"]["application/json"]
        value = content["example"] if "example" in content else content["examples"]["inputs"]["value"]
        check(document, content["schema"], value)
        told = server.post(path, value).json
        check(document, operation["responses"]["200"]["content"]["application/json"]["schema"], told)
    bad = {"instances": [{"hour": 25}]}
    check(document, {"$ref": "#/components/schemas/Error"}, server.post("/predict", bad).json)
    check(document, {"$ref": "#/components/schemas/MlflowError"}, server.post("/invocations", bad).json)


def check(document, schema, value):
    whole = {**schema, "components": document["components"]}
    Draft202012Validator(whole).validate(value)


@pytest.mark.parametrize(
    ("task", "target", "schema"),
    [
        (CLASSIFICATION, Column("late", Kind.integer, minimum=0, maximum=1), {"enum": [0, 1, False, True]}),
        (
            CLASSIFICATION,
            Column("late", Kind.string, categories=("yes", "no")),
            {"enum": ["no", "yes", 0, 1, False, True]},
        ),
        (
            CLASSIFICATION,
            Column("late", Kind.string, categories=("yes", "no"), personal=True),
            {"enum": [0, 1, False, True]},
        ),
        (
            REGRESSION,
            Column("stars", Kind.integer, nullable=True, minimum=1, maximum=5, strict=True),
            {"type": "integer", "format": "int64", "minimum": 1, "maximum": 5},
        ),
        (REGRESSION, None, {"type": "number", "format": "double"}),
    ],
)
def test_a_labels_value_is_described_as_the_target_is_declared(task, target, schema):
    assert openapi.label_schema(Signature(INPUTS, "y", task, target=target)) == schema


def test_the_example_is_the_one_packaged_with_the_model_where_the_contract_takes_it(tmp_path):
    packaged = {
        "columns": ["hour", "name", "distance", "delay before"],
        "data": [[99, "text", 1040.0, 12.34000015258789]],
    }
    (tmp_path / "input_example.json").write_text(json.dumps(packaged))
    row = openapi.example_row(RICH, tmp_path)
    assert (row["distance"], row["name"], row["hour"], row["origin"]) == (1040.0, "text", 0, "EWR")
    assert row["delay before"] == 12.34, "a float32 in its shortest form"
    (tmp_path / "input_example.json").write_text("[")
    assert openapi.example_row(RICH, tmp_path)["distance"] == 31.5


def test_it_follows_the_version_in_force(server):
    server.put(table(epoch=2, model="flights & more", routes=(route(3),)))
    assert server.get("/openapi.json").json["info"]["version"] == "3"


def test_without_a_release_there_is_nothing_to_describe(serve):
    reply = serve().get("/docs")
    assert (reply.status, reply.error) == (503, "no version of '' is released yet; release one and try again")


def test_columns_that_a_contract_forbids_are_forbidden_in_the_schema(serve):
    strict = replace(RICH, allowed=frozenset({*RICH.names, "customer"}))
    server = serve({1: Fake(1, signature=strict)}, table())
    row = server.get("/openapi.json").json["components"]["schemas"]["Row"]
    assert row["additionalProperties"] is False
    assert row["properties"]["customer"] == {}


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows(server):
    reply = server.get("/docs", {"Host": "models.example:8080"})
    text = reply.body.decode()
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert [one for one in ("<script", "src=", "@import", "url(", "<b>", "http://www", "https://") if one in text] == []
    assert "it&#x27;s &lt;b&gt;" in text
    assert "curl http://models.example:8080/predict -H &#x27;Content-Type: application/json&#x27;" in text
    assert "personal</span>" in text
    assert server.get("/v2/docs").status == 200


@pytest.mark.parametrize("host", ["a b", "x'; rm -rf /", '"><script>', "h:999999", ""])
def test_a_host_that_is_none_is_not_shown(document, host):
    assert b"http://localhost:8080/predict" in docspage.page(document, host)


def test_the_commands_of_the_page_work_as_they_stand(server, document):
    commands = [
        command
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not path.endswith("/unload")
        for command in docspage.curls(document, server.url, path, method, operation)
    ]
    with httpx.Client(timeout=20) as client:
        for command in commands:
            assert curl(client, command) == 200, command


def curl(client, command):
    """What curl would do with such a command; the shell's quoting is taken off by shlex."""
    words = shlex.split(command)
    assert words[0] == "curl"
    url, *options = words[1:]
    headers = dict(named.split(": ", 1) for flag, named in pairwise(options) if flag == "-H")
    body = options[options.index("--data-binary") + 1].encode() if "--data-binary" in options else None
    return client.request("GET" if body is None else "POST", url, content=body, headers=headers).status_code


def test_a_token_is_in_the_document_and_in_the_commands(document):
    closed = {**document, "security": [{"token": []}]}
    (command,) = docspage.curls(closed, "http://h", "/livez", "get", closed["paths"]["/livez"]["get"])
    assert command == 'curl http://h/livez -H "Authorization: Bearer $TRUELINE_TOKEN"'


def test_where_only_loading_needs_a_token_only_its_commands_have_one(serve, tmp_path):
    StateFolder(tmp_path / "state").create().token.write_text("tl_0123456789abcdef")
    server = serve({1: rich(1)}, table(routes=(route(1),)))
    document = server.get("/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()
    assert {path for path, methods in document["paths"].items() for one in methods.values() if "security" in one} == {
        path for path in document["paths"] if path.endswith(("/load", "/unload"))
    }
    assert server.get("/docs").body.count(b"Bearer $TRUELINE_TOKEN") == 2
