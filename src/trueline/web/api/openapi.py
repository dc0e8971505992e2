"""The API's description, OpenAPI 3.1, drawn from the table of routes and the types it names: it cannot fall behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import msgspec

from trueline.web.api.calls import EVENT_STREAM, Permission, Route
from trueline.web.api.problems import MEDIA_TYPE, Problem

_SCALARS = {"int": {"type": "integer", "minimum": 0}, "": {"type": "string"}}


class Document(msgspec.Struct, kw_only=True):
    """An OpenAPI document."""

    openapi: str = "3.1.0"
    info: dict[str, Any]
    servers: list[dict[str, str]]
    security: list[dict[str, list[str]]]
    tags: list[dict[str, str]]
    paths: dict[str, dict[str, Any]]
    components: dict[str, Any]


def document(routes: Sequence[Route]) -> Document:
    """Describe a table of routes."""
    kinds = {kind for route in routes for kind in (route.request, route.response) if kind is not None}
    ordered = [*sorted(kinds - {Document}, key=lambda kind: kind.__name__), Problem]
    _, schemas = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_path(route), {})[route.method.lower()] = operation(route)
    tags = sorted({_tag(route) for route in routes})
    return Document(
        info={
            "title": "trueline",
            "version": metadata.version("trueline"),
            "summary": "Keeps machine-learning models true in production",
            "description": "The control plane's API. The command line, the Python client and the pages use nothing else.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        servers=[{"url": "/", "description": "the control process that answered"}],
        security=[{"token": []}],
        tags=[{"name": tag} for tag in tags],
        paths=paths,
        components={
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "the token in the state folder"}
            },
            "responses": {
                "Problem": {
                    "description": "What went wrong, in a sentence one can act on",
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    )


def operation(route: Route) -> dict[str, Any]:
    """One route's operation object."""
    described: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [_tag(route)],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            str(route.status): {
                "description": route.summary,
                "content": {route.media: {"schema": _schema(route)}},
            },
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if route.request is not None:
        required = bool(msgspec.structs.fields(route.request)) and any(
            field.required for field in msgspec.structs.fields(route.request)
        )
        described["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": _reference(route.request)}},
        }
    if route.permission is Permission.anyone:
        described["security"] = []
    else:
        described["x-permission"] = str(route.permission)
    return described


def operation_id(route: Route) -> str:
    """A name unique in the table: `post_versions_number_waive`."""
    words = re.findall(r"\w+", re.sub(r":int|\.json", "", route.path))
    return "_".join([route.method.lower(), *words])


def _path(route: Route) -> str:
    return route.template.replace(":int", "")


def _tag(route: Route) -> str:
    return str(re.findall(r"\w+", route.path)[0])


def _reference(kind: type[msgspec.Struct]) -> dict[str, Any]:
    if kind is Document:
        return {"type": "object", "description": "this document"}
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _schema(route: Route) -> dict[str, Any]:
    if route.media != EVENT_STREAM:
        return _reference(route.response)
    return {"type": "string", "description": f"server-sent events; the data of each is a {route.response.__name__}"}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _SCALARS[kind]}
        for name, kind in re.findall(r"\{(\w+)(?::(int))?\}", route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = msgspec.json.schema(route.query)
    properties = schema["$defs"][route.query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": kind} for name, kind in properties.items()]
