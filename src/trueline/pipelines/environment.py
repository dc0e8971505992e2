"""The environment a training ran in: interpreter, platform, every installed distribution, and the number of threads."""

from __future__ import annotations

import platform
import re
import sys
from functools import cache
from importlib import metadata
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
    """Version by normalised name, in name order."""
    found = {
        re.sub(r"[-_.]+", "-", name).lower(): one.version
        for one in metadata.distributions()
        if (name := one.metadata["Name"])
    }
    return dict(sorted(found.items()))
