"""The project file's JSON Schema, made from the declaration of its keys.

It says what can be said of one value at a time, and the few rules between keys that JSON Schema knows words for. What an
overlay makes of the rest of the file only the reader can judge: there every key is optional and may be null.
"""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any

import yaml

from trueline.projectfile.keys import FIXED, PROJECT, Group, Key, is_inline

DIALECT = "https://json-schema.org/draft/2020-12/schema"
OVERLAY = "#/$defs/overlay"


def schema() -> dict[str, Any]:
    """The JSON Schema of a whole project file."""
    whole = _group(PROJECT, overlay=False)
    whole["properties"]["targets"] |= {
        "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
        "additionalProperties": {"$ref": OVERLAY},
    }
    overlay = _group(PROJECT, overlay=True) | {"description": "What differs in this environment."}
    return {"$schema": DIALECT, "title": "trueline.yaml", **whole, "$defs": {"overlay": overlay}}


def _group(group: Group, *, overlay: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": group.help,
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }
    required: list[str] = []
    _members(group, found["properties"], required, overlay=overlay)
    if required and not overlay:
        found["required"] = required
    if group.rules and not overlay:
        found["allOf"] = [dict(rule) for rule in group.rules]
    return found


def _members(group: Group, properties: dict[str, Any], required: list[str], *, overlay: bool) -> None:
    for member in group.members:
        if is_inline(member):
            _members(member, properties, required, overlay=overlay)
        elif not (overlay and group is PROJECT and member.name in FIXED):
            needed = group.default(member) is MISSING
            inner = _key(group, member) if isinstance(member, Key) else _group(member, overlay=overlay)
            properties[member.name] = inner if needed and not overlay else _nullable(inner)
            if needed:
                required.append(member.name)


def _key(group: Group, key: Key) -> dict[str, Any]:
    default = group.default(key)
    known = {} if default is MISSING else {"default": yaml.safe_load(key.kind.show(default))}
    return {"description": key.help, **known, **key.kind.schema}


def _nullable(inner: dict[str, Any]) -> dict[str, Any]:
    """The same, or null: which is as if the key were not there."""
    if "enum" in inner:
        return inner | {"enum": [*inner["enum"], None]}
    if "anyOf" in inner:
        return inner | {"anyOf": [*inner["anyOf"], {"type": "null"}]}
    return inner | {"type": [inner["type"], "null"]}
