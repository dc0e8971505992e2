"""The stages of a release as they are written: `[shadow: 1h, canary: [10%, 50%], full]`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from trueline.domain.project import Step
from trueline.projectfile.kinds import Kind
from trueline.projectfile.nodes import Node
from trueline.projectfile.quantities import SHARE, SPAN, written_span

EXPECTS = "a list of stages, as [shadow: 1h, canary: [10%, 50%], full]"
STAGE = "a stage: shadow: 1h, canary: [10%, 50%], or full"


def _strategy(node: Node) -> tuple[Step, ...]:
    """Weights only grow and the last step is full."""
    if node.items is None:
        node.wrong(EXPECTS)
    steps = [step for item in node.items for step in _stage(item)]
    weights = [step.weight for step in steps]
    kinds = [step.kind for step in steps]
    if not steps or kinds[-1] != "full" or kinds.count("full") != 1:
        node.wrong("stages that end in full, as [shadow: 1h, canary: [10%, 50%], full]")
    if weights != sorted(weights) or kinds.count("shadow") > 1:
        node.wrong("one shadow at most, then canary shares that grow, then full")
    return tuple(steps)


def _stage(node: Node) -> list[Step]:
    if node.text == "full":
        return [Step("full", 1.0)]
    if node.members is None or len(node.members) != 1:
        node.wrong(STAGE)
    ((name, value),) = node.members.items()
    if name == "shadow":
        return [Step("shadow", 0.0, SPAN.read(value))]
    if name != "canary":
        node.wrong(STAGE)
    if value.items is None:
        value.wrong("shares of traffic, as [10%, 50%]")
    shares = [SHARE.read(item) for item in value.items]
    if not shares or max(shares) >= 1:
        value.wrong("shares of traffic below 100%, as [10%, 50%]")
    return [Step("canary", weight) for weight in shares]


def _written(steps: tuple[Step, ...]) -> str:
    return f"[{', '.join(_stages(steps))}]"


def _stages(steps: tuple[Step, ...]) -> Iterator[str]:
    for kind, some in groupby(steps, key=lambda step: step.kind):
        match kind:
            case "shadow":
                yield from (f"shadow: {written_span(step.at_least)}" for step in some)
            case "canary":
                yield f"canary: [{', '.join(SHARE.show(step.weight) for step in some)}]"
            case _:
                yield kind


def _only(name: str, schema: object) -> dict[str, object]:
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


_BELOW_ALL = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "string", "pattern": r"^(?!0+(\.0+)?%)[0-9]{1,2}(\.[0-9]{1,12})?%$"},
    ]
}

STRATEGY = Kind(
    EXPECTS,
    _strategy,
    {
        "type": "array",
        "items": {
            "anyOf": [
                {"const": "full"},
                _only("shadow", SPAN.schema),
                _only("canary", {"type": "array", "items": _BELOW_ALL, "minItems": 1}),
            ]
        },
        "contains": {"const": "full"},
        "minContains": 1,
        "maxContains": 1,
    },
    _written,
)
