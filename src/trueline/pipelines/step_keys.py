"""What makes two steps the same: their code, what they are given, and where they run.

A step's key is made as a run's is (`key`), with the digests of its inputs in place of the rows. Ten steps share one
environment of hundreds of packages, so their keys hold its digest, and it is kept once beside the outputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trueline.domain.steps import Step
from trueline.pipelines import values
from trueline.pipelines.graph import INPUT, Argument, Call, only_references, references, resolve
from trueline.pipelines.key import difference, key_parts
from trueline.pipelines.outputs import Outputs
from trueline.pipelines.reach import Reach

UNKNOWN = {"python": "?", "platform": "?", "threads": "?", "packages": {}}


@dataclass
class Keys:
    """The keys of one run's steps; code is read once."""

    reach: Reach
    frame: str  # digest of the training rows as a step gets them
    environment: str  # digest
    seed: int

    def parts(self, call: Call, made: Mapping[str, values.Tree]) -> dict[str, Any]:
        """Everything that the step's output is a function of; `made` has what it takes from."""
        inputs: dict[str, str] = {}
        params: dict[str, Any] = {}
        for name, argument in call.arguments.items():
            for place, step, path in references(argument):
                inputs[f"{name}{place}"] = self._frame(path) if step == INPUT else values.digest(made[step], path)
            if not only_references(argument):
                params[name] = _said(argument)
        parts = key_parts(
            code=self.reach.of(call.file, call.function) if call.file else {},
            entry=call.entry,
            params=params,
            inputs=inputs,
            environment={},
            seed=self.seed,
        )
        return {**parts, "environment": self.environment}

    def _frame(self, path: list[Any]) -> str:
        return hashlib.sha256(json.dumps([self.frame, path]).encode()).hexdigest() if path else self.frame


def nearest(parts: Mapping[str, Any], earlier: Iterable[Step], outputs: Outputs) -> tuple[Step, str] | None:
    """The earlier step that differs least, the newest of those, and what differs."""
    wanted = expanded(parts, outputs)
    found: tuple[int, Step, str] | None = None
    for step in earlier:
        if step.key_parts is None:
            continue
        other = expanded(step.key_parts, outputs)
        count = differences(other, wanted)
        if found is None or count < found[0]:
            found = count, step, difference(other, wanted)
    return None if found is None else found[1:]


def expanded(parts: Mapping[str, Any], outputs: Outputs) -> dict[str, Any]:
    """The parts with the environment itself in place of its digest."""
    if not isinstance(parts["environment"], str):
        return dict(parts)
    try:
        around = json.loads(outputs.path(parts["environment"]).read_bytes())
    except (OSError, ValueError):
        around = {**UNKNOWN, "platform": parts["environment"][:12]}
    return {**parts, "environment": around}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> int:
    """How many of the parts' members differ."""
    count = 0
    for name in ("code", "params", "inputs", "environment"):
        count += sum(old[name].get(key) != new[name].get(key) for key in {*old[name], *new[name]})
    return int(count + (old["entry"] != new["entry"]) + (old["seed"] != new["seed"]))


def _said(argument: Argument) -> Any:
    """Plain values as they are, save tuples, which JSON would take for lists; nothing in place of a step's result."""
    if "tuple" in argument:
        return {"tuple": [_said(inner) for inner in argument["tuple"]]}
    if "list" in argument:
        return [_said(inner) for inner in argument["list"]]
    if "dict" in argument:
        return {name: _said(inner) for name, inner in argument["dict"].items()}
    return resolve(argument, lambda _step, _path: None)
