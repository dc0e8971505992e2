"""A training that is done but could not be kept yet: it is not done again when its run is taken up again.

The storage may be away for an hour after a training of an hour. The key, which says all that went in, is written beside
the result when both are there.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from trueline.pipelines.spec import MODEL, TrainResult, TrainSpec, read_result, write_atomically
from trueline.storage import trees

KEY = "trained.json"


def once(spec: TrainSpec, key: str, train: Callable[[TrainSpec], TrainResult]) -> TrainResult:
    """What was trained of this key in the run's folder, or is now."""
    found = _found(spec, key)
    if found is None:
        (spec.folder / KEY).unlink(missing_ok=True)  # else what is trained now would go by an earlier attempt's key
        found = train(spec)
        write_atomically(spec.folder / KEY, {"key": key})
    return found


def _found(spec: TrainSpec, key: str) -> TrainResult | None:
    result = read_result(spec.folder)
    if not isinstance(result, TrainResult) or _key_of(spec) != key:
        return None
    model = spec.folder / MODEL
    return result if model.is_dir() and trees.digest(model) == result.digest else None


def _key_of(spec: TrainSpec) -> str | None:
    try:
        return str(json.loads((spec.folder / KEY).read_text())["key"])
    except FileNotFoundError:
        return None
