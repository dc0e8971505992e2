"""trueline keeps machine-learning models true in production.

From training code: `trueline.log("auc", 0.91)` and `trueline.log_params({...})` record into the run. Everything else is
the command line (`trueline --help`), the HTTP API, and `trueline.client`.
"""

from trueline.tracking.journal import log, log_params

__all__ = ["__version__", "log", "log_params"]

__version__ = "0.1.0"
