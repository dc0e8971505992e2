"""What makes two trainings the same, as one digest; and, when they are not, a sentence saying what differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def key_parts(
    *,
    code: Mapping[str, str],
    entry: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    environment: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Everything that a training's outcome is a function of, as JSON values to be kept with the run.

    `code` is `closure.closure(...)`, `inputs` names the data (digest of the dataset version, window, contract, task),
    `environment` is `environment.environment(...)`.
    """
    return {
        "code": dict(code),
        "entry": entry,
        "params": dict(params),
        "inputs": dict(inputs),
        "environment": dict(environment),
        "seed": seed,
    }


def run_key(parts: Mapping[str, Any]) -> str:
    """The digest of the parts; the order in which they were put together does not matter."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why a training was done again, or why not: one sentence for `why-cached`."""
    found: list[str] = []
    if old["entry"] != new["entry"]:
        found.append(f"the function is {new['entry']} instead of {old['entry']}")
    found += _changes(old["code"], new["code"], "code of ")
    found += _changes(old["params"], new["params"], "parameter ", shown=True)
    found += _changes(old["inputs"], new["inputs"], "", shown=True)
    if old["seed"] != new["seed"]:
        found.append(f"the seed is {new['seed']} instead of {old['seed']}")
    then, now = old["environment"], new["environment"]
    for name in ("python", "platform", "threads"):
        if then[name] != now[name]:
            found.append(f"{name} is {now[name]} instead of {then[name]}")
    found += _changes(then["packages"], now["packages"], "package ", shown=True)
    if not found:
        return "nothing differs: code, parameters, data, environment and seed are the same"
    return "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], what: str, *, shown: bool = False) -> list[str]:
    found = []
    for name in sorted({*old, *new}):
        if name not in new:
            found.append(f"{what}{name} is gone")
        elif name not in old:
            found.append(f"{what}{name} is new" + (f" ({_short(new[name])})" if shown else ""))
        elif old[name] != new[name]:
            values = f" ({_short(old[name])} -> {_short(new[name])})" if shown else ""
            found.append(f"{what}{name} changed{values}")
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:20] + "…"
