"""The environment a training ran in: interpreter, platform, every installed distribution, and the number of threads."""

from __future__ import annotations

import platform
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


def environment(threads: int) -> dict[str, Any]:
    """JSON values; equal environments are equal values."""
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "threads": threads,
        "packages": installed(),
    }


@cache  # a process keeps the modules it has imported, whatever is installed meanwhile
def installed() -> dict[str, str]:
    """Version by normalised name, in name order.

    A wheel's folder is named after both (`numpy-2.4.6.dist-info`), so 150 metadata files need not be parsed; what was
    installed in another way is asked.
    """
    found: dict[str, str] = {}
    for one in metadata.distributions():
        folder = Path(str(getattr(one, "_path", "")))
        name, _, version = folder.stem.rpartition("-")
        if folder.suffix != ".dist-info" or not name:
            name, version = one.metadata["Name"] or "", one.version
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return dict(sorted(found.items()))
