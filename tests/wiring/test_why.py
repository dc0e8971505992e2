"""`why` of a prediction: the tables are searched, and the journals shipped, while no transaction stands open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trueline.data import predictions
from trueline.errors import NotFound
from trueline.wiring import open_services

PROJECT = "version: 1\nproject: p\ndata: {source: rows.csv, target: y}\ntrain: model.py:fit\n"


def test_no_transaction_stands_open_while_a_prediction_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends one that stands still for ten seconds; shipping may take a minute."""
    (tmp_path / "trueline.yaml").write_text(PROJECT)
    services = open_services(tmp_path / "trueline.yaml")
    pool: Any = services._store._database.engine.pool
    during: list[int] = []
    monkeypatch.setattr(predictions, "find", lambda *_: during.append(pool.checkedout()))
    monkeypatch.setattr(services._controllers, "ship", lambda: during.append(pool.checkedout()))
    with pytest.raises(NotFound, match="there is no prediction r0-1-1-0"):
        services.why("r0-1-1-0")
    services.close()
    assert during == [0, 0, 0]
