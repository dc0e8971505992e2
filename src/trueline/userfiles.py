"""A file of the user's, as a module.

No bytecode is left beside it: what only looks at a project changes nothing there, and a file that is edited within the
same second, to the same length, must not be taken for the one it was.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def import_file(path: Path, name: str) -> ModuleType | None:
    """The file as it is now, run as a module of that name; None when it is not Python's by its name.

    What the file raises is raised.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module
