from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from s3 import amazon, behind, storage  # noqa: F401  fixtures
from trueline.settings import StateFolder

sys.path.append(str(Path(__file__).parent))  # tests are not a package, and importlib mode adds no paths


@pytest.fixture
def state(tmp_path):
    folder = StateFolder(tmp_path / "state").create()
    yield folder
    shutil.rmtree(folder.socket("any").parent, ignore_errors=True)
