from __future__ import annotations

import pytest

from s3 import amazon, behind, storage  # noqa: F401  fixtures


@pytest.fixture
def objects(storage):  # noqa: F811
    return storage.objects
