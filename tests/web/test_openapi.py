"""The published description says what the table says, and is well-formed OpenAPI 3.1."""

import json
import re

import pytest

from trueline.web.api.calls import Permission
from trueline.web.api.router import ROUTES


@pytest.fixture
def document(ask):
    return ask("GET", "/api/v1/openapi.json", token=None)[1]


def references(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_route_is_described_and_nothing_else(document):
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert described == {(route.method, route.template.replace(":int", "")) for route in ROUTES}


def test_every_reference_leads_somewhere(document):
    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_no_schema_is_left_over(document):
    used = set(references(document))
    assert {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} <= used


def test_operations_have_unique_names_and_their_path_parameters(document):
    names = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path))
            assert operation["summary"]
            assert "default" in operation["responses"]
    assert len(names) == len(set(names))


def test_what_needs_no_token_is_marked_so(document):
    public = {route.template for route in ROUTES if route.permission is Permission.anyone}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert (operation.get("security") == []) == (path in public)
    assert document["security"] == [{"token": []}]


def test_bodies_with_required_fields_are_required(document):
    paths = document["paths"]
    assert paths["/api/v1/rollback"]["post"]["requestBody"]["required"] is True
    assert paths["/api/v1/runs"]["post"]["requestBody"]["required"] is False


def test_it_validates_against_the_specification(document):
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(json.loads(json.dumps(document)))
