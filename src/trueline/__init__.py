"""trueline keeps machine-learning models true in production.

From training code: `trueline.log("auc", 0.91)` and `trueline.log_params({...})` record into the run; `@trueline.step` and
`@trueline.pipeline` make functions the steps of a training. Everything else is the command line (`trueline --help`), the
HTTP API, and `trueline.client`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported when first used: every command and server imports this package, and few need these
    from trueline.pipelines.authoring import pipeline, step
    from trueline.tracking.journal import log, log_params

__all__ = ["__version__", "log", "log_params", "pipeline", "step"]

__version__ = "0.1.0"

_HOMES = {
    "log": "trueline.tracking.journal",
    "log_params": "trueline.tracking.journal",
    "pipeline": "trueline.pipelines.authoring",
    "step": "trueline.pipelines.authoring",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trueline' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
